//! The server's own PostgreSQL cluster in its data folder.
