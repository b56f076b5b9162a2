//! Names that nobody should be able to give a file.

/// Names that lead out of a folder somewhere, on some system, or that no file should have.
pub(crate) fn hostile_names() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let up = [
        "..",
        ".",
        "...",
        "....",
        "../",
        "./",
        "..\\",
        ".\\",
        "....//",
        "....\\\\",
        "..;/",
        "../..",
        "..\\..",
        "/",
        "//",
        "\\",
        "\\\\",
        "/..",
        "a/..",
        "a/../..",
        "a\\..\\..",
        "~",
        "~/",
        "~root/",
        "-",
        "--",
        "-rf",
        ".hidden",
        ".a.part",
    ];
    let targets = ["", "secret", "etc/passwd", "etc\\passwd", "inside.txt"];
    for prefix in up {
        names.extend(targets.iter().map(|target| format!("{prefix}{target}")));
    }
    for depth in 1..=20 {
        names.push(format!("{}secret", "../".repeat(depth)));
        names.push(format!("{}secret", "..\\".repeat(depth)));
    }
    for root in [
        "/etc/passwd",
        "//etc/passwd",
        "C:secret",
        "C:\\secret",
        "c:/secret",
        "\\\\host\\share\\secret",
        "//host/share",
        "\\\\?\\C:\\secret",
        "\\\\.\\C:",
        "\\??\\C:\\secret",
        "file:secret",
        "file:///etc/passwd",
        "inside.txt:stream",
        "inside.txt::$DATA",
        "inside.txt/",
        "inside.txt/.",
        "a*",
        "a?",
        "a\"b",
        "<a",
        "a>b",
        "a|b",
        "sub/inside.txt",
    ] {
        names.push(root.into());
    }
    let devices = ["CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$"].map(str::to_owned).into_iter();
    let ports =
        ["COM", "LPT"].iter().flat_map(|port| "0123456789¹²³".chars().map(move |n| format!("{port}{n}")));
    for device in devices.chain(ports) {
        names.extend([
            device.clone(),
            device.to_lowercase(),
            format!("{device}.txt"),
            format!("{device} .txt"),
        ]);
    }
    for end in [
        "inside.txt.",
        "inside.txt ",
        "inside.txt..",
        "inside.txt. ",
        " inside.txt",
        "\u{a0}inside.txt",
        "inside.txt\u{3000}",
    ] {
        names.push(end.into());
    }
    for invisible in [
        '\u{202e}',
        '\u{202d}',
        '\u{2066}',
        '\u{200b}',
        '\u{200d}',
        '\u{feff}',
        '\u{ad}',
        '\u{2028}',
        '\u{2029}',
        '\u{e0041}',
        '\u{3164}',
    ] {
        names.extend([
            format!("inside{invisible}.txt"),
            format!("{invisible}inside.txt"),
            format!("inside.txt{invisible}"),
        ]);
    }
    // Decomposed letters: another spelling of a composed name.
    names.extend(["e\u{301}.txt", "a\u{30a}.txt", "\u{1112}\u{1161}\u{11ab}.txt"].map(str::to_owned));
    names.extend([128, 255, 256, 1000].map(|len| "n".repeat(len + 1)));
    names
}
