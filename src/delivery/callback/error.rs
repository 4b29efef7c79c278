//! Why a body isn't a callback.

use std::fmt;

/// The error returned when a body isn't a callback.
///
/// The text names the field and never holds a value, so it may be logged and sent.
///
/// ```
/// use tower_qstash::Callback;
///
/// let error = Callback::from_slice(br#"{"status": 200, "url": "https://example.com/"}"#);
/// let error = error.unwrap_err();
/// assert_eq!(error.field(), Some("sourceMessageId"));
/// assert_eq!(error.to_string(), "the callback has no field sourceMessageId");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallbackError {
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    NotAnObject { line: usize, column: usize },
    Missing { field: &'static str },
    Invalid { field: &'static str, expected: &'static str },
}

impl CallbackError {
    /// Returns the JSON name of the field at fault, such as `sourceBody`, or `None` if the body
    /// isn't a JSON object at all.
    pub fn field(&self) -> Option<&str> {
        match self.problem {
            Problem::NotAnObject { .. } => None,
            Problem::Missing { field } | Problem::Invalid { field, .. } => Some(field),
        }
    }

    /// `line` and `column` are one-based. Zero means that the text is JSON, but not an object.
    pub(super) fn not_an_object(line: usize, column: usize) -> Self {
        Self { problem: Problem::NotAnObject { line, column } }
    }

    pub(super) fn missing(field: &'static str) -> Self {
        Self { problem: Problem::Missing { field } }
    }

    pub(super) fn invalid(field: &'static str, expected: &'static str) -> Self {
        Self { problem: Problem::Invalid { field, expected } }
    }
}

impl fmt::Display for CallbackError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problem {
            Problem::NotAnObject { line: 0, .. } => {
                f.write_str("the callback is not a JSON object")
            }
            Problem::NotAnObject { line, column } => write!(
                f,
                "the callback is not a JSON object with each name once: line {line}, column {column}"
            ),
            Problem::Missing { field } => write!(f, "the callback has no field {field}"),
            Problem::Invalid { field, expected } => {
                write!(f, "the callback's field {field} is not {expected}")
            }
        }
    }
}

impl std::error::Error for CallbackError {}
