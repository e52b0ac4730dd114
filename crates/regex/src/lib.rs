//! `regex`, as oci-spec asks for it: to look whether `execCPUAffinity` is a list of numbers and ranges. The engine of the crate
//! of that name is 0.4 MB of code, most of which every tincan would have in memory; regex-lite, by the same authors, has the
//! same interface and a tenth of the size.

pub use regex_lite::Regex;
