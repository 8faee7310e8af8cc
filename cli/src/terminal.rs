//! The one place that writes for a person: lines, tables and progress on standard output. Colours and moving bars only where a
//! person looks at it; everything else reads the same in a file.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use unicode_width::UnicodeWidthStr;

/// How often a log without a person gets a line of progress.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Where the output goes.
#[derive(Debug, Clone, Copy)]
pub struct Terminal {
    interactive: bool,
    colour: bool,
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

impl Terminal {
    /// What standard output and the environment (NO_COLOR, TERM) allow.
    #[must_use]
    pub fn detect() -> Self {
        let interactive =
            std::io::stdout().is_terminal() && std::env::var_os("TERM").is_some_and(|term| term != "dumb");
        let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { interactive, colour: interactive && !no_colour }
    }

    /// Writes a line. A reader that has gone is no error: the work goes on.
    pub fn line(&self, text: impl AsRef<str>) {
        let _ = writeln!(std::io::stdout().lock(), "{}", text.as_ref());
    }

    /// Writes to standard error.
    pub fn error(&self, text: &str) {
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }

    /// Writes a table, two blanks in from the left.
    pub fn table(&self, headers: &[&str], aligns: &[Align], rows: &[Vec<String>]) {
        for (number, line) in table(headers, aligns, rows).into_iter().enumerate() {
            self.line(format!("  {}", if number == 0 { self.dim(&line) } else { line }));
        }
    }

    /// Bold.
    #[must_use]
    pub fn bold(&self, text: &str) -> String {
        self.styled("1", text)
    }

    /// For what is beside the point.
    #[must_use]
    pub fn dim(&self, text: &str) -> String {
        self.styled("2", text)
    }

    /// For what is right.
    #[must_use]
    pub fn good(&self, text: &str) -> String {
        self.styled("32", text)
    }

    /// For what is wrong.
    #[must_use]
    pub fn bad(&self, text: &str) -> String {
        self.styled("31", text)
    }

    /// For what a person should know, and nothing is lost.
    #[must_use]
    pub fn warning(&self, text: &str) -> String {
        self.styled("33", text)
    }

    /// Progress over so many records.
    #[must_use]
    pub fn progress(&self, total: usize) -> Progress {
        let total_steps = u64::try_from(total).unwrap_or(u64::MAX);
        let bar = self.interactive.then(|| {
            let bar = ProgressBar::with_draw_target(Some(total_steps), ProgressDrawTarget::stdout());
            if let Ok(style) = ProgressStyle::with_template("  {bar:40} {human_pos}/{human_len} records  {msg}") {
                bar.set_style(style);
            }
            bar
        });
        Progress { terminal: *self, total, bar, last_line: Mutex::new(Instant::now()) }
    }

    fn styled(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// A bar for a person, a line every few seconds for a log.
#[derive(Debug)]
pub struct Progress {
    terminal: Terminal,
    total: usize,
    bar: Option<ProgressBar>,
    last_line: Mutex<Instant>,
}

impl Progress {
    /// So many records are done, and this is going on.
    pub fn at(&self, done: usize, doing: &str) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
            bar.set_message(doing.to_owned());
            return;
        }
        let Ok(mut last) = self.last_line.lock() else {
            return;
        };
        if last.elapsed() >= PLAIN_PROGRESS_EVERY {
            *last = Instant::now();
            let (done, total) = (grouped(done), grouped(self.total));
            self.terminal.line(format!("  {done}/{total} records  {doing}"));
        }
    }

    /// Writes a line without tearing the bar.
    pub fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| self.terminal.line(text)),
            None => self.terminal.line(text),
        }
    }

    /// Takes the bar away.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// The lines of a table, header first. Columns are as wide as their widest cell; wide characters count as the two columns that they take.
#[must_use]
pub fn table(headers: &[&str], aligns: &[Align], rows: &[Vec<String>]) -> Vec<String> {
    let header: Vec<String> = headers.iter().map(|header| (*header).to_owned()).collect();
    let all: Vec<&Vec<String>> = std::iter::once(&header).chain(rows).collect();
    let widths: Vec<usize> = (0..headers.len())
        .map(|column| {
            let cells = all.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.width()).max().unwrap_or(0)
        })
        .collect();
    all.iter()
        .map(|row| {
            let cells: Vec<String> = widths
                .iter()
                .enumerate()
                .map(|(column, width)| {
                    let cell = row.get(column).map_or("", String::as_str);
                    let blanks = " ".repeat(width.saturating_sub(cell.width()));
                    match aligns.get(column) {
                        Some(Align::Right) => format!("{blanks}{cell}"),
                        _ => format!("{cell}{blanks}"),
                    }
                })
                .collect();
            cells.join("  ").trim_end().to_owned()
        })
        .collect()
}

/// A cell on one line and at most so wide; what does not fit ends in `…`.
#[must_use]
pub fn fitted(text: &str, width: usize) -> String {
    // A control character would move the cursor, and a row's content must not write on the person's terminal.
    let visible: String = text
        .chars()
        .flat_map(|c| {
            let escaped = c.is_control().then(|| c.escape_default());
            let plain = escaped.is_none().then_some(c);
            escaped.into_iter().flatten().chain(plain)
        })
        .collect();
    if visible.width() <= width {
        return visible;
    }
    let room = width.saturating_sub(1);
    let mut end = 0;
    for (place, c) in visible.char_indices() {
        let next = place.saturating_add(c.len_utf8());
        if visible.get(..next).is_some_and(|start| start.width() > room) {
            break;
        }
        end = next;
    }
    let cut = visible.get(..end).unwrap_or_default();
    format!("{}…", cut.trim_end_matches('\u{200d}'))
}

/// `2372` → `2,372`.
#[must_use]
pub fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len().saturating_mul(2));
    for (place, digit) in digits.chars().enumerate() {
        let left = digits.len().saturating_sub(place);
        if place > 0 && left.is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1` `row`, `2` `rows`.
#[must_use]
pub fn counted(number: usize, singular: &str) -> String {
    let ending = if number == 1 { "" } else { "s" };
    format!("{} {singular}{ending}", grouped(number))
}

/// Milliseconds below ten seconds, else seconds.
#[must_use]
pub fn duration(time: Duration) -> String {
    if time < Duration::from_secs(10) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

/// In MiB, or that it is unknown.
#[must_use]
pub fn memory(bytes: Option<u64>) -> String {
    match bytes {
        Some(bytes) => format!("{} MiB", bytes.div_ceil(1024 * 1024)),
        None => "unknown".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_with_wide_characters() {
        let rows = [
            vec!["1".to_owned(), "윤서준🦀".to_owned(), "x".to_owned()],
            vec!["1000".to_owned(), "a".to_owned(), "y".to_owned()],
        ];
        let lines = table(&["id", "name", ""], &[Align::Right, Align::Left, Align::Left], &rows);
        assert_eq!(lines, ["  id  name", "   1  윤서준🦀  x", "1000  a         y"]);
    }

    #[test]
    fn a_cell_is_cut_to_its_width_and_never_inside_a_character() {
        assert_eq!(fitted("short", 5), "short");
        assert_eq!(fitted("too long", 5), "too …");
        assert_eq!(fitted("부재 시 경비실", 7), "부재 …");
        assert_eq!(fitted("🚀🚀🚀", 4), "🚀…");
        assert_eq!(fitted("a\n\x1b[31mb", 20), "a\\n\\u{1b}[31mb");
    }

    #[test]
    fn numbers_are_grouped_by_three() {
        assert_eq!(["0", "999", "1,000", "1,234,567"].map(str::to_owned), [0, 999, 1000, 1_234_567].map(grouped));
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1500, "row"), "1,500 rows");
    }
}
