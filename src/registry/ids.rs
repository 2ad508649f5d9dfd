//! Ids of models, runners and leases. They are distinct types, so that none can be passed for another.

/// Defines an id, a number that is never used twice.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) struct $name(pub(crate) u64);

        impl $name {
            /// Returns this id, and advances to the next one.
            pub(super) fn allocate(&mut self) -> Self {
                let id = *self;
                self.0 += 1;
                id
            }
        }
    };
}

id! {
    /// Id of a model from one edit of its load settings, or restart on request, to the next.
    Edition
}

id! {
    /// Id of a started model.
    RunnerId
}

id! {
    /// Id of the lease of a call, from its request for a model on.
    LeaseId
}
