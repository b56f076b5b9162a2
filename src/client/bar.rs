//! The bar of a one-shot transfer: on standard error, and at a terminal alone.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::report::size_text;
use super::terminal;
use super::transfers::View;

/// A longer name is cut. Ours: it leaves room for the rest in 60 columns.
const NAME_CHARS_MAX: usize = 24;

/// A window of fewer columns gets a shorter bar.
const COLUMNS_WIDE: usize = 60;

/// What has moved, on two rows.
#[derive(Debug)]
pub(super) struct Bar(ProgressBar);

impl Bar {
    /// None.
    pub(super) fn hidden() -> Bar {
        Bar(ProgressBar::hidden())
    }

    /// One that begins where the transfer stands; it goes when dropped.
    pub(super) fn start(view: &View) -> Bar {
        // A terminal that cannot move its cursor would show every step of it.
        if !terminal::can_edit() {
            return Bar::hidden();
        }
        let places = if terminal::size().0 < COLUMNS_WIDE { 8 } else { 20 };
        let template = format!("{{msg}} {{percent:>3}} % [{{bar:{places}.green}}] {{eta}} left\n{{prefix}}");
        // A name is chosen by others, but holds nothing that is not printable.
        let name: String = view.name.as_str().chars().take(NAME_CHARS_MAX).collect();
        let bar = ProgressBar::new(view.size.unwrap_or_default()).with_message(name);
        bar.set_style(
            ProgressStyle::with_template(&template)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> "),
        );
        bar.set_position(view.moved_bytes);
        // What an earlier try has moved took no time of this one.
        bar.reset_eta();
        let bar = Bar(bar);
        bar.show(view);
        bar
    }

    /// Shows how far it is.
    pub(super) fn show(&self, view: &View) {
        let size = size_text(view.size.unwrap_or_default());
        let mut numbers =
            format!("  {} of {size}, {}/s", size_text(view.moved_bytes), size_text(whole(self.0.per_sec())));
        let srtt = view.srtt.map(|srtt| format!(", srtt {}", round_trip(srtt)));
        let resent = (view.resent_packets > 0).then(|| format!(", {} resent", view.resent_packets));
        // A row that wraps would leave its end behind.
        for more in [srtt, resent].into_iter().flatten() {
            if numbers.len() + more.len() <= terminal::size().0 {
                numbers += &more;
            }
        }
        self.0.set_prefix(numbers);
        self.0.set_position(view.moved_bytes);
    }

    /// Leaves its place for what `act` writes.
    pub(super) fn suspend<T>(&self, act: impl FnOnce() -> T) -> T {
        self.0.suspend(act)
    }
}

/// `0.3 ms`, `41 ms`, `1200 ms`.
fn round_trip(srtt: Duration) -> String {
    if srtt < Duration::from_millis(10) {
        format!("{:.1} ms", srtt.as_secs_f64() * 1e3)
    } else {
        format!("{} ms", srtt.as_millis())
    }
}

#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate for people: a float cast saturates, and three digits are shown"
)]
fn whole(rate: f64) -> u64 {
    rate as u64
}
