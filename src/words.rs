//! The words of closed sets, and the one that was probably meant.

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

/// Returns the known word that was probably meant by another one.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let most = |known: &str| 1 + known.len() / 4;
    known
        .into_iter()
        // No word is nearer than its length: most need no comparison.
        .filter(|known| known.len().abs_diff(word.len()) <= most(known))
        .map(|known| (strsim::osa_distance(word, known), known))
        .filter(|(distance, known)| *distance <= most(known))
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, known)| known)
}
