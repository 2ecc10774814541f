//! Floor 6: files for people and other programs: CSV and XLSX, written row by row with memory that does not grow, and read
//! within bounds ([`sheet`]).
//!
//! [`table`] says what a row is, [`csv`] and [`xlsx`] write rows, [`rows`] gets them through ports page by page, and
//! [`desk`] runs one after the other as jobs. It must not know SQL, HTTP or actors.

pub mod csv;
pub mod desk;
pub mod file;
pub mod rows;
mod run;
pub mod sheet;
pub mod table;
pub mod xlsx;

pub use desk::{ExportSettings, Exports};
pub use sheet::{SheetBounds, Sheets};
