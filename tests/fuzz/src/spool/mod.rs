//! What the spool writes: the bytes of segments and of records. `codec` and `record` are links to the room's own files, for
//! what they have is the room's alone; its threads and files stay out.

mod codec;
mod record;
pub mod target;
