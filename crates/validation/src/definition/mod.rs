//! MessageDefinitions and the other definitions: what is loaded, and what is compiled from it.
//!
//! `load` reads the files, with `package` for those of implementation guides; `catalog` has the look-ups; `choose` selects
//! the definition of a message.

pub(crate) mod canonical;
pub(crate) mod catalog;
pub(crate) mod definitions;
mod load;
pub(crate) mod message_definition;
pub mod package;

pub use catalog::Catalog;
pub use definitions::Definitions;
pub use message_definition::{Definition, FocusRule};
pub use package::DefinitionFile;
