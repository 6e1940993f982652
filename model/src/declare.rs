//! How a piece of the state is declared: once, with how each field is visited and what it is called.
//!
//! From a declaration follow the struct, its default and its walk ([`crate::visit::Visit`]), and from the walk all that
//! has to know every field: packing, renaming, the search for stale keys, what a page shows. Not here: what there is to
//! declare ([`crate::kernel`]), and the kinds of fields ([`crate::visit::Visitor`]).

/// A struct of the state. A row is the field, its type, in brackets how it is visited, and what it is called; a word in
/// braces stands for what the field belongs to (`sim` knows which there are).
///
/// How: a kind of [`crate::visit::Visitor`] with its width where it has one, `of` for a struct with a walk of its own,
/// `by` for a function; `each` for every item of an array, `front` for those up to the first that is `None`. Rows in
/// `when` are there in worlds of which the visitor says so, rows in `if` in objects of which that is true. `again` visits a field
/// once more. `end`: the object has words of its own.
///
/// The order and the widths are the layout of a packed state. What may be left out comes last in its words, so that the
/// compiler knows where each field lies.
macro_rules! state {
    ($(#[$doc:meta])* $name:ident { $($rows:tt)* }) => {
        state!(@declare ($(#[$doc])*) $name () [] [] $($rows)*);
        state!(@walk $name $($rows)*);
    };
    ($(#[$doc:meta])* $name:ident<P> { $($rows:tt)* }) => {
        state!(@declare ($(#[$doc])*) $name (P) [] [] $($rows)*);
        state!(@walk $name $($rows)*);
    };

    (@declare ($($doc:tt)*) $name:ident () [$($fields:tt)*] [$($field:ident)*]) => {
        $($doc)*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        pub struct $name { $($fields)* }
    };
    (@declare ($($doc:tt)*) $name:ident (P) [$($fields:tt)*] [$($field:ident)*]) => {
        $($doc)*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct $name<P: Pointers = Slots> { $($fields)* }

        impl<P: Pointers> Default for $name<P> {
            fn default() -> Self {
                $name { $($field: Default::default()),* }
            }
        }
    };
    (@declare $doc:tt $name:ident $p:tt $fields:tt $all:tt end; $($rest:tt)*) => {
        state!(@declare $doc $name $p $fields $all $($rest)*);
    };
    (@declare $doc:tt $name:ident $p:tt $fields:tt $all:tt again $of:ident $how:tt; $($rest:tt)*) => {
        state!(@declare $doc $name $p $fields $all $($rest)*);
    };
    (@declare $doc:tt $name:ident $p:tt $fields:tt $all:tt when $so:ident { $($rows:tt)* } $($rest:tt)*) => {
        state!(@declare $doc $name $p $fields $all $($rows)* $($rest)*);
    };
    (@declare $doc:tt $name:ident $p:tt $fields:tt $all:tt if $so:tt { $($rows:tt)* } $($rest:tt)*) => {
        state!(@declare $doc $name $p $fields $all $($rows)* $($rest)*);
    };
    (@declare $doc:tt $name:ident $p:tt [$($fields:tt)*] [$($all:ident)*]
        $(#[$fdoc:meta])* $field:ident: $ty:ty [$($how:tt)*] $called:literal; $($rest:tt)*
    ) => {
        state!(@declare $doc $name $p [$($fields)* $(#[$fdoc])* pub $field: $ty,] [$($all)* $field] $($rest)*);
    };

    (@walk $name:ident $($rows:tt)*) => {
        impl Visit for $name {
            #[inline(always)]
            fn visit<V: Visitor>(&mut self, v: &mut V) {
                let s = self;
                state!(@rows s v $($rows)*);
            }
        }
    };
    (@rows $s:ident $v:ident) => {};
    (@rows $s:ident $v:ident end; $($rest:tt)*) => {
        $v.end();
        state!(@rows $s $v $($rest)*);
    };
    (@rows $s:ident $v:ident again $field:ident [$($how:tt)*]; $($rest:tt)*) => {
        state!(@how $s $v $field $($how)*);
        state!(@rows $s $v $($rest)*);
    };
    (@rows $s:ident $v:ident when $so:ident { $($rows:tt)* } $($rest:tt)*) => {
        if $v.$so() {
            state!(@rows $s $v $($rows)*);
        }
        state!(@rows $s $v $($rest)*);
    };
    (@rows $s:ident $v:ident if ($it:ident: $so:expr) { $($rows:tt)* } $($rest:tt)*) => {
        let so = {
            let $it = &*$s;
            $so
        };
        if so {
            state!(@rows $s $v $($rows)*);
        }
        state!(@rows $s $v $($rest)*);
    };
    (@rows $s:ident $v:ident
        $(#[$doc:meta])* $field:ident: $ty:ty [$($how:tt)*] $called:literal; $($rest:tt)*
    ) => {
        $v.field($called);
        state!(@how $s $v $field $($how)*);
        state!(@rows $s $v $($rest)*);
    };

    (@how $s:ident $v:ident $field:ident of) => { $s.$field.visit($v); };
    (@how $s:ident $v:ident $field:ident by $visit:path) => { $visit($s, $v); };
    (@how $s:ident $v:ident $field:ident each of) => {
        for (n, item) in $s.$field.iter_mut().enumerate() {
            $v.nth(n);
            item.visit($v);
        }
    };
    (@how $s:ident $v:ident $field:ident each $kind:ident $(($width:expr))?) => {
        for (n, item) in $s.$field.iter_mut().enumerate() {
            $v.nth(n);
            $v.$kind(item $(, $width)?);
        }
    };
    (@how $s:ident $v:ident $field:ident front $kind:ident) => {
        for (n, item) in $s.$field.iter_mut().enumerate() {
            $v.nth(n);
            $v.$kind(item);
            if item.is_none() {
                break;
            }
        }
    };
    (@how $s:ident $v:ident $field:ident $kind:ident $(($width:expr))?) => {
        $v.$kind(&mut $s.$field $(, $width)?);
    };
}
pub(crate) use state;

/// An enum whose values have names, the first of which is the default.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $value:ident $word:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum $name { #[default] $($(#[$vdoc])* $value),+ }

        impl $name {
            /// Its name.
            pub fn name(self) -> &'static str {
                match self { $($name::$value => $word),+ }
            }
        }

        impl Word for $name {
            const ALL: &[Self] = &[$($name::$value),+];

            #[inline(always)]
            fn number(self) -> u8 {
                self as u8
            }

            fn name(self) -> &'static str {
                self.name()
            }
        }
    };
}
pub(crate) use words;

/// A set of flags, each of which has a name: from the lowest bit, without gaps.
macro_rules! flags {
    ($(#[doc = $doc:literal])* $name:ident: $bits:ident {
        $($(#[doc = $fdoc:literal])* $flag:ident = $bit:literal $word:literal;)+
    }) => {
        bitflags! {
            $(#[doc = $doc])*
            #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
            pub struct $name: $bits { $($(#[doc = $fdoc])* const $flag = $bit;)+ }
        }

        impl Flags for $name {
            const WORDS: &[&str] = &[$($word),+];

            #[inline(always)]
            fn mask(self) -> u16 {
                self.bits().into()
            }

            #[inline(always)]
            fn of_mask(mask: u16) -> Self {
                $name::from_bits_retain(mask as $bits)
            }
        }

        const _: () = assert!($name::all().bits().count_ones() as usize == <$name as Flags>::WORDS.len());
    };
}
pub(crate) use flags;
