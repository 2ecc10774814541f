//! What a virtual meter shows, from its model: the reverse of [`super::decode`].

pub use super::modbus::image::{ImageError, RegisterImage};
