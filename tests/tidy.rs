//! The shape of the source: layers, and nothing asynchronous.

use std::fs;
use std::path::{Path, PathBuf};

/// Who may import whom: a module imports only what stands to its right (and `chat` skips `rudp`).
const LAYERS: [(&str, &[&str]); 6] = [
    ("wire", &["wire"]),
    ("rudp", &["rudp", "wire"]),
    ("transfer", &["transfer", "rudp", "wire"]),
    ("chat", &["chat", "wire"]),
    ("server", &["server", "transfer", "chat", "rudp", "wire"]),
    ("client", &["client", "transfer", "chat", "rudp", "wire"]),
];

fn source_files(folder: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a folder of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            source_files(&path, out);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            out.push(path);
        }
    }
}

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    source_files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut files);
    assert!(!files.is_empty(), "{folder} has no source");
    files.into_iter().map(|path| (path.clone(), fs::read_to_string(&path).expect("UTF-8"))).collect()
}

/// The modules of this crate that a source text names by an absolute path.
fn imports(text: &str) -> Vec<String> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code: String = code.flat_map(|line| [line, "\n"]).collect();
    code.split("crate::")
        .skip(1)
        .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .collect()
}

#[test]
fn modules_import_only_what_stands_to_their_right() {
    for (module, allowed) in LAYERS {
        for (path, text) in sources(&format!("src/{module}")) {
            for import in imports(&text) {
                assert!(
                    allowed.contains(&import.as_str()),
                    "{}: {module} must not use {import}",
                    path.display()
                );
            }
        }
    }
    let modules =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).expect("src/lib.rs");
    let declared: Vec<&str> =
        modules.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert!(
        declared.iter().all(|module| LAYERS.iter().any(|(layer, _)| layer == module)),
        "a new layer has to be placed: {declared:?}"
    );
}

#[test]
fn the_core_has_no_socket_clock_thread_or_file() {
    for folder in ["src/rudp", "src/wire", "src/chat"] {
        for (path, text) in sources(folder).into_iter().filter(|(path, _)| !path.ends_with("tests.rs")) {
            let product = text.split("#[cfg(test)]").next().expect("what comes before the tests");
            for banned in ["Instant::now", "SystemTime", "std::fs", "std::net", "std::thread", "getrandom"] {
                assert!(!product.contains(banned), "{}: {banned} has no place here", path.display());
            }
        }
    }
}

#[test]
fn nothing_is_asynchronous() {
    for (path, text) in sources("src") {
        for banned in ["async fn", "async move", "async {", ".await;", ".await?", ".await)"] {
            assert!(!text.contains(banned), "{}: {banned}", path.display());
        }
    }
}
