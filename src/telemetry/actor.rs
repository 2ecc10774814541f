//! Happenings of the actor room.

pub(super) fn touch() {}
