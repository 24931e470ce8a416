//! The words of closed sets.

/// Gives enums that derive strum's `VariantArray` and `IntoStaticStr` the list of their values and
/// the word of each.
macro_rules! words {
    ($($set:ty),+) => {$(
        impl $set {
            /// Every value, in the order of the declaration.
            pub const ALL: &'static [Self] = <Self as strum::VariantArray>::VARIANTS;

            /// Returns the word that headers, results, logs and metrics show.
            #[must_use]
            pub fn name(self) -> &'static str {
                self.into()
            }
        }
    )+};
}

pub(crate) use words;
