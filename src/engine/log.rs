//! The log that a caller has asked for (`--log`): a line for each error, and for each warning.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::PathBuf;

use serde_json::json;

use super::error::without_errno;
use super::state::now;

/// How a line of the log looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineFormat {
    /// Text, with the words that runc's lines have.
    Text,
    /// An object with `level`, `msg` and `time`.
    Json,
}

/// A log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The file, which is appended to.
    pub path: PathBuf,
    /// What its lines look like.
    pub format: LineFormat,
}

impl Log {
    /// Appends a line; where that cannot be, standard error hears why.
    pub fn write(&self, level: &str, message: &str) {
        let time = now();
        let line = match self.format {
            LineFormat::Text => format!("time={time} level={level} msg={message:?}"),
            LineFormat::Json => json!({"level": level, "msg": message, "time": time}).to_string(),
        };
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| writeln!(file, "{line}"));
        if let Err(cause) = written {
            let cause = without_errno(&cause.to_string());
            complain!("tincan: --log {}: {cause}", self.path.display());
        }
    }
}
