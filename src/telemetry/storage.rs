//! Happenings of the storage room.

pub(super) fn touch() {}
