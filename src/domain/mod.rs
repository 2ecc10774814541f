//! Floor 1: the vocabulary of metering. Knows no wire format, no I/O, no clock ("now" is an argument).

pub mod access;
pub mod alarm;
pub mod archive;
pub mod command;
pub mod consumption;
pub mod device;
pub mod integration;
pub mod keep;
pub mod notice;
pub mod parameter;
pub mod quantity;
pub mod reading;
pub mod schedule;
pub mod scope;
pub mod second_factor;
pub mod slot;
