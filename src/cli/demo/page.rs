//! `Page`: what the demo prints, in 80 columns, with colour on a terminal that wants it.

use std::cell::Cell;
use std::io::{self, IsTerminal, Write};

/// Columns of a page.
pub(super) const WIDTH: usize = 80;

/// A place to print, and whether all came out as told so far.
pub(super) struct Page {
    colour: bool,
    failures: Cell<u32>,
}

/// How a piece of text looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Title,
    Step,
    Good,
    Bad,
    Dim,
}

impl Page {
    /// Colour on a terminal, unless `NO_COLOR` is set (no-color.org).
    pub(super) fn of_standard_output() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { colour: wanted && io::stdout().is_terminal(), failures: Cell::new(0) }
    }

    pub(super) fn has_colour(&self) -> bool {
        self.colour
    }

    /// Whether everything came out as told.
    pub(super) fn is_clean(&self) -> bool {
        self.failures.get() == 0
    }

    pub(super) fn title(&self, text: &str) {
        self.line(&self.look(Look::Title, text));
        self.line(&self.look(Look::Title, &"=".repeat(text.chars().count().min(WIDTH))));
    }

    /// A step of the story, with its number.
    pub(super) fn step(&self, number: usize, text: &str) {
        self.line("");
        self.line(&self.look(Look::Step, &format!("{number}. {text}")));
    }

    /// Running text, wrapped.
    pub(super) fn say(&self, text: &str) {
        for line in wrapped(text, WIDTH - 3) {
            self.line(&format!("   {line}"));
        }
    }

    /// One hop: who, and what happened there.
    pub(super) fn hop(&self, who: &str, text: &str) {
        let mut who = format!("{who:<11}");
        for line in wrapped(text, WIDTH - 15) {
            self.line(&format!("   {} {line}", self.look(Look::Dim, &who)));
            who = " ".repeat(11);
        }
    }

    /// Two texts side by side under their headings, row by row.
    pub(super) fn side_by_side(&self, headings: (&str, &str), rows: &[(String, String, String)]) {
        const LABEL: usize = 20;
        const SIDE: usize = (WIDTH - 3 - LABEL) / 2 - 1;
        let head = format!("   {:LABEL$}{:SIDE$}  {}", "", cut(headings.0, SIDE), cut(headings.1, SIDE));
        self.line(&self.look(Look::Dim, head.trim_end()));
        for (label, left, right) in rows {
            let mut sides = (cut(left, SIDE), cut(right, SIDE));
            // A long name goes on in the next line.
            for (at, part) in wrapped(label, LABEL - 3).into_iter().enumerate() {
                let (left, right) = std::mem::take(&mut sides);
                let part = if at == 0 { part } else { format!("  {part}") };
                self.line(format!("   {:LABEL$}{left:SIDE$}  {right}", cut(&part, LABEL - 1)).trim_end());
            }
        }
    }

    /// A finding: as told, or not.
    pub(super) fn check(&self, holds: bool, text: &str) {
        let (mark, look) = if holds { ("ok", Look::Good) } else { ("NOT SO", Look::Bad) };
        if !holds {
            self.failures.set(self.failures.get() + 1);
        }
        let mut mark = format!("   {} ", self.look(look, mark));
        let indent = if holds { 6 } else { 10 };
        for line in wrapped(text, WIDTH - indent) {
            self.line(&format!("{mark}{line}"));
            mark = " ".repeat(indent);
        }
    }

    pub(super) fn line(&self, text: &str) {
        // A reader that went away is no fault.
        let _ = writeln!(io::stdout(), "{text}");
    }

    fn look(&self, look: Look, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match look {
            Look::Title => "1;36",
            Look::Step => "1",
            Look::Good => "32",
            Look::Bad => "1;31",
            Look::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }
}

/// Breaks text between words into lines of at most `width` characters; a longer word gets a line of its own.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        let needed = line.chars().count() + 1 + word.chars().count();
        if !line.is_empty() && needed > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

/// The text in at most `width` characters; the last one says when there was more.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_shows_it() {
        assert_eq!(cut("settlement", 10), "settlement");
        assert_eq!(cut("settlements", 10), "settlemen…");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrapped("one two three", 7), ["one two", "three"]);
        assert_eq!(wrapped("extraordinary", 5), ["extraordinary"]);
        assert_eq!(wrapped("", 5), [""]);
    }

    #[test]
    fn what_is_not_so_is_counted() {
        let page = Page { colour: false, failures: Cell::new(0) };
        page.check(true, "fine");
        assert!(page.is_clean());
        page.check(false, "not fine");
        assert!(!page.is_clean());
    }
}
