//! How programs get to TC ingress: by TCX where the kernel has it, otherwise by filters of a clsact qdisc.

use clap::ValueEnum;
use std::io;
use thiserror::Error;
use vpc_bpf::{has_tcx, kernel_release};

/// What the command line wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TcWish {
    /// TCX where the kernel has it.
    Auto,
    /// TCX or nothing.
    Tcx,
    /// Filters, also where the kernel has TCX.
    Clsact,
}

/// The way that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TcWay {
    /// TCX. Linux 6.6.
    Tcx,
    /// Filters of a clsact qdisc.
    Clsact {
        /// Why not TCX.
        why: String,
    },
}

/// No way can be taken.
#[derive(Debug, Error)]
pub enum TcWayError {
    /// The kernel did not answer.
    #[error("ask kernel {kernel} whether it has TCX")]
    Ask {
        /// Release of the kernel.
        kernel: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// TCX is insisted on.
    #[error("kernel {kernel} has no TCX, which Linux 6.6 brought; leave out `--attach tcx`")]
    NoTcx {
        /// Release of the kernel.
        kernel: String,
    },
}

impl TcWay {
    /// Finds out what the kernel has.
    ///
    /// # Errors
    /// It does not tell, or lacks what is insisted on.
    pub fn choose(wish: TcWish) -> Result<Self, TcWayError> {
        if wish == TcWish::Clsact {
            return Ok(Self::Clsact { why: "`--attach clsact` says so".to_owned() });
        }
        match has_tcx() {
            Ok(true) => Ok(Self::Tcx),
            Ok(false) if wish == TcWish::Tcx => Err(TcWayError::NoTcx { kernel: kernel_release() }),
            Ok(false) => Ok(Self::Clsact { why: format!("kernel {} has no TCX", kernel_release()) }),
            Err(source) => Err(TcWayError::Ask { kernel: kernel_release(), source }),
        }
    }

    /// Its name in reports.
    pub const fn mode(&self) -> &'static str {
        match self {
            Self::Tcx => "tcx",
            Self::Clsact { .. } => "clsact",
        }
    }

    /// Puts why it was taken in front of what else is to say, where it is not the usual way.
    pub fn explain(&self, reason: &str) -> String {
        match self {
            Self::Tcx => reason.to_owned(),
            Self::Clsact { why } => format!("{why}; {reason}"),
        }
    }
}
