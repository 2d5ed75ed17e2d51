//! What is wrong with an envelope or a grant, and where.

use core::fmt;

use crate::id::TextError;

/// Why bytes are not a header, a grant or an image: the field, its offset, and the problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParseError {
    /// Name of the field, as `docs/spec/image.md` has it.
    pub field: &'static str,
    /// Offset of the field in the header or grant, in bytes.
    pub offset: usize,
    /// What is wrong with it.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Problem {
    /// Another magic number: not this kind of object at all.
    Magic,
    /// A value that version 1 does not define.
    Unknown(u64),
    /// A value outside its limits.
    Range(u64),
    /// A value that contradicts another field.
    Contradiction {
        /// The value that the other fields imply.
        expected: u64,
        /// The value in the field.
        found: u64,
    },
    /// Bytes that must be zero are not.
    NotZero,
    /// Not a valid identifier.
    Text(TextError),
    /// Not above the identity before it: entries ascend, and none is there twice.
    Order,
    /// Not the identity of the key that follows.
    Identity,
}

/// What a parser says of the first field that is wrong: all of it, or where alone.
pub trait FieldError: Sized {
    /// The error of this field.
    fn of(field: &'static str, offset: usize, problem: Problem) -> Self;
}

impl FieldError for ParseError {
    fn of(field: &'static str, offset: usize, problem: Problem) -> Self {
        Self {
            field,
            offset,
            problem,
        }
    }
}

/// The offset of the field that is wrong: what an ECU reports of it. Names and values would cost it
/// flash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Offset(pub usize);

impl FieldError for Offset {
    #[inline]
    fn of(_: &'static str, offset: usize, _: Problem) -> Self {
        Self(offset)
    }
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "field {} at offset {}: {}",
            self.field, self.offset, self.problem
        )
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_str("wrong magic number"),
            Self::Unknown(value) => write!(f, "value {value} is not defined in this version"),
            Self::Range(value) => write!(f, "value {value} is out of range"),
            Self::Contradiction { expected, found } => {
                write!(f, "value is {found}, other fields imply {expected}")
            }
            Self::NotZero => f.write_str("reserved bytes are not zero"),
            Self::Text(error) => error.fmt(f),
            Self::Order => f.write_str("not above the one before"),
            Self::Identity => f.write_str("not the identity of its key"),
        }
    }
}

impl core::error::Error for ParseError {}
