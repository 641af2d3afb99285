//! Events on their way out of core. Standalone keeps them in the store's journal; [`envelope`] is their form.

pub mod envelope;
