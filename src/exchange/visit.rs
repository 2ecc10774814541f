//! A visit in progress, and the one order in which visits get the line.
//!
//! Order: priority first; within a priority a visit that has begun goes on before another begins; then meters take
//! turns, whoever has many jobs waiting; then first come, first served.

use super::Moment;
use super::job::{PollJob, Priority, TransactionError, TransactionReport};
use crate::base::ids::{MeterId, PollId};
use crate::port_free::FrameKind;
use crate::protocol::Request;
use chrono::{DateTime, Utc};
use std::time::Instant;
