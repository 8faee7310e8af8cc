//! JSON as DMS lays it out: indented with tabs and a tab behind each colon, or on one line.

use crate::settings::MessageFormat;

/// Writes one object, member by member.
#[derive(Debug)]
pub(crate) struct Writer {
    text: String,
    format: MessageFormat,
    /// Per open object or list: whether it has a member.
    open: Vec<bool>,
}

impl Writer {
    pub(crate) fn new(format: MessageFormat) -> Self {
        let mut writer = Self { text: String::with_capacity(512), format, open: Vec::new() };
        writer.begin('{');
        writer
    }

    /// The text; closes the outermost object.
    pub(crate) fn finish(mut self) -> String {
        self.end('}');
        self.text
    }

    /// A member that is an object.
    pub(crate) fn object(&mut self, name: &str, content: impl FnOnce(&mut Self)) {
        self.name(name);
        self.begin('{');
        content(self);
        self.end('}');
    }

    /// A member that is a list of texts.
    pub(crate) fn texts(&mut self, name: &str, texts: &[String]) {
        self.name(name);
        self.text.push('[');
        for (place, text) in texts.iter().enumerate() {
            if place > 0 {
                self.text.push(',');
                if self.format == MessageFormat::Json {
                    self.text.push(' ');
                }
            }
            self.text.push_str(&quoted(text));
        }
        self.text.push(']');
    }

    /// A member whose value is JSON already.
    pub(crate) fn raw(&mut self, name: &str, value: &str) {
        self.name(name);
        self.text.push_str(value);
    }

    /// A member that is text.
    pub(crate) fn text(&mut self, name: &str, value: &str) {
        self.raw(name, &quoted(value));
    }

    fn name(&mut self, name: &str) {
        if let Some(has_member) = self.open.last_mut() {
            if *has_member {
                self.text.push(',');
            }
            *has_member = true;
        }
        self.new_line();
        self.text.push_str(&quoted(name));
        self.text.push(':');
        if self.format == MessageFormat::Json {
            self.text.push('\t');
        }
    }

    fn begin(&mut self, bracket: char) {
        self.text.push(bracket);
        self.open.push(false);
    }

    fn end(&mut self, bracket: char) {
        let had_member = self.open.pop().unwrap_or(false);
        if had_member || self.format == MessageFormat::Json {
            self.new_line();
        }
        self.text.push(bracket);
    }

    fn new_line(&mut self) {
        if self.format == MessageFormat::Json {
            self.text.push('\n');
            self.text.extend(std::iter::repeat_n('\t', self.open.len()));
        }
    }
}

/// A text as JSON, everything but quotation marks, backslashes and control characters as it is.
pub(crate) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}
