//! Stories about the standalone form alone: its data directory, its embedded store, its command line. A run on the
//! distributed form leaves them out by this module's name.

mod core_service;
mod disk;
mod kill;
mod start;
