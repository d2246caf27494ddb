//! Moves a site from one cloud to another, and cuts it over.
//!
//! A line of this list may use only the lines above it; `tests/unit/test_layers.py` holds the wall.
//!
//! | module | owns |
//! |---|---|
//! | [`event`], [`error`] | the words that journal, bus, reports and tests share |
//! | [`drill`] | failures on order, to rehearse the way back |
//! | [`settings`] | pillar → typed settings |
//! | [`journal`] | records, their fold, the lock; the only mint of permits |
//! | [`proof`] | records of ours about what leaves nothing to look at |
//! | [`outside`] | the seam to whoever runs us: questions to hosts, events |
//! | [`addresses`], [`cloud`], [`database`], [`edge`], [`site`] | typed clients, one folder per system; they know no step |
//! | [`step`], [`engine`] | the engine; it names no system |
//! | [`steps`] | one kind of fact per file |
//! | [`phases`] | settings → graph; order lives only here |
//! | [`command`] | what can be asked for, by name; reports |
//! | `python` | the only place that names `pyo3` |

pub mod addresses;
pub mod cloud;
pub mod command;
pub mod database;
pub mod drill;
pub mod edge;
pub mod engine;
pub mod error;
pub mod event;
pub mod journal;
pub mod outside;
pub mod phases;
pub mod proof;
#[cfg(feature = "python")]
mod python;
pub mod settings;
pub mod site;
pub mod step;
pub mod steps;
