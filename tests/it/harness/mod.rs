//! What integration tests share.

pub mod db;
