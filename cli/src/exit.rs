//! How a command ends: the exit code, and an error that carries one.

use std::fmt;
use std::process::ExitCode;

/// The exit codes of every command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// All that was asked for was done.
    Ok = 0,
    /// Something went wrong, and was said.
    Failed = 1,
    /// The command line, the environment or a name makes no sense.
    Usage = 2,
    /// The time was up, or nobody was there.
    TimedOut = 3,
    /// A peer or a worker refused.
    Refused = 4,
    /// By SIGINT or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    /// All of them, as the help lists them.
    pub(crate) const ALL: [Self; 6] =
        [Self::Ok, Self::Failed, Self::Usage, Self::TimedOut, Self::Refused, Self::Interrupted];

    /// What it says, in a few words.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Failed => "failed",
            Self::Usage => "wrong usage",
            Self::TimedOut => "timed out, or nobody was there",
            Self::Refused => "refused",
            Self::Interrupted => "interrupted",
        }
    }

    /// An error that ends the command with this code.
    pub(crate) fn because(self, reason: impl fmt::Display) -> anyhow::Error {
        Stop { exit: self, reason: reason.to_string() }.into()
    }

    /// The code of an error: 1 unless it says otherwise.
    pub(crate) fn of(error: &anyhow::Error) -> Self {
        error.downcast_ref::<Stop>().map_or(Self::Failed, |stop| stop.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

#[derive(Debug)]
struct Stop {
    exit: Exit,
    reason: String,
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

impl std::error::Error for Stop {}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn an_error_keeps_its_code_under_more_words() {
        let error = Err::<(), _>(Exit::TimedOut.because("too late")).context("while pushing").unwrap_err();
        assert_eq!(Exit::of(&error), Exit::TimedOut);
        assert_eq!(format!("{error:#}"), "while pushing: too late");
        assert_eq!(Exit::of(&anyhow::anyhow!("no code")), Exit::Failed);
    }
}
