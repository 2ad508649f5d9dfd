//! Ids of editions, runners and leases. They are distinct types, so that the compiler rejects a mix-up.

/// Defines the type of an id, which is a number that is never reused.
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
    /// Id of an edition of a model. A model gets a new edition when an edit changes its load settings, and when it is unloaded or restarted
    /// on request.
    Edition
}

id! {
    /// Id of a runner, that is, of a started model.
    RunnerId
}

id! {
    /// Id of a call's lease. It is allocated when the call requests its model, before the lease is granted.
    LeaseId
}
