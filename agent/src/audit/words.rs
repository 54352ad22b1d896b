//! Words of the log as types.

/// Makes an enum whose variants have a name in JSON, and their place as their number in entries: a
/// new one goes to the end.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum $name {
            $($(#[$variant_doc])* $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];
            /// Their names, by number.
            pub const NAMES: &'static [&'static str] = &[$($text,)+];

            /// Its name in JSON.
            pub fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }

            /// Its number in entries.
            pub fn number(self) -> u64 {
                self as u64
            }
        }
    };
}
pub(super) use named;
