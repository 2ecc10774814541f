//! Happenings of the api room.

pub(super) fn touch() {}
