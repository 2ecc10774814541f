//! Small seams between rooms that must not know each other.

use crate::device::catalogue::Catalogue;
use std::sync::Arc;

/// The catalogue as the API sees it.
pub struct Models(pub Arc<Catalogue>);

/// Explains raw frames for the API.
pub struct Explainer;
