//! Values as they come.

use crate::audit::Excerpt;

/// Where parameters come from: lets a record be made from whatever holds them, without a list made
/// for the purpose.
pub trait ParameterSource {
    /// How many there were, also of those not held.
    fn count(&self) -> usize;
    /// Hands those held to `take`, in their order.
    fn each(&self, take: &mut dyn FnMut(Parameter<'_>));
}

/// One bound value.
#[derive(Clone, Copy)]
pub struct Parameter<'a> {
    /// Format code, 0 text, 1 binary; others are refused by the server.
    pub format: u16,
    /// Object id of its type, as the server described it or else the client declared it; 0 where
    /// neither did.
    pub type_oid: u32,
    /// `None` for NULL. Cut by [`Excerpt::of`].
    pub value: Option<Excerpt<'a>>,
}

impl ParameterSource for &[Parameter<'_>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn each(&self, take: &mut dyn FnMut(Parameter<'_>)) {
        self.iter().copied().for_each(take);
    }
}
