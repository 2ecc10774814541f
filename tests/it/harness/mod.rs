//! What integration tests share.

pub mod api;
pub mod db;
pub mod http;
pub mod notices;
