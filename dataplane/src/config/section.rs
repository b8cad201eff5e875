//! How the structs of a configuration document are declared, and how their fields are read: strictly.
//!
//! The YAML reader would take `'5'` for a number and `'true'` for a boolean where the target is one. Kubernetes does
//! not, so numbers and booleans are read for what they are written as, and then have to be of the right type.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{DeserializeOwned, Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serializer};

/// A type that a field of a document can have. `null` reads as the type's zero value, as in Go's JSON decoder: kubeadm
/// writes `null` for what it leaves unset.
pub(super) trait Field: Sized {
    /// Reads the value of a field.
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads the value of a field whose type cannot be mistaken for another.
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    Option::<T>::deserialize(deserializer).map(Option::unwrap_or_default)
}

/// Makes types fields by way of [`nullable`].
macro_rules! fields {
    ($($type:ty),+ $(,)?) => {$(
        impl crate::config::section::Field for $type {
            fn read<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                crate::config::section::nullable(deserializer)
            }
        }
    )+};
}
pub(super) use fields;

fields!(String, Option<Vec<String>>, crate::config::GoDuration, Option<crate::config::GoDuration>);

/// A plain YAML number or boolean that can become `Self`.
trait Scalar: Sized {
    const EXPECTED: &'static str;

    fn of_bool(_value: bool) -> Option<Self> {
        None
    }

    fn of_integer(_value: i64) -> Option<Self> {
        None
    }

    fn of_float(_value: f64) -> Option<Self> {
        None
    }
}

impl Scalar for bool {
    const EXPECTED: &'static str = "true or false";

    fn of_bool(value: bool) -> Option<Self> {
        Some(value)
    }
}

impl Scalar for i32 {
    const EXPECTED: &'static str = "an integer of 32 bits";

    fn of_integer(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
}

impl Scalar for u32 {
    const EXPECTED: &'static str = "an integer of 32 bits that is not negative";

    fn of_integer(value: i64) -> Option<Self> {
        value.try_into().ok()
    }
}

impl Scalar for f64 {
    const EXPECTED: &'static str = "a number";

    fn of_integer(value: i64) -> Option<Self> {
        i32::try_from(value).ok().map(Self::from)
    }

    fn of_float(value: f64) -> Option<Self> {
        Some(value)
    }
}

/// `None` for null.
struct ScalarVisitor<T>(PhantomData<T>);

impl<T: Scalar> Visitor<'_> for ScalarVisitor<T> {
    type Value = Option<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Self::Value, E> {
        T::of_bool(value).map(Some).ok_or_else(|| E::invalid_type(Unexpected::Bool(value), &self))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Self::Value, E> {
        T::of_integer(value).map(Some).ok_or_else(|| E::invalid_value(Unexpected::Signed(value), &self))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Self::Value, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => Err(E::invalid_value(Unexpected::Unsigned(value), &self)),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        T::of_float(value).map(Some).ok_or_else(|| E::invalid_type(Unexpected::Float(value), &self))
    }
}

fn scalar<'de, D: Deserializer<'de>, T: Scalar>(deserializer: D) -> Result<Option<T>, D::Error> {
    deserializer.deserialize_any(ScalarVisitor(PhantomData))
}

impl<T: Scalar + Default> Field for T {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer).map(Option::unwrap_or_default)
    }
}

impl Field for Option<bool> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

impl Field for Option<i32> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        scalar(deserializer)
    }
}

impl Field for BTreeMap<String, bool> {
    fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Strict(bool);
        impl<'de> Deserialize<'de> for Strict {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                bool::read(deserializer).map(Self)
            }
        }
        let map: BTreeMap<String, Strict> = nullable(deserializer)?;
        Ok(map.into_iter().map(|(name, Strict(value))| (name, value)).collect())
    }
}

/// Writes a whole number without a decimal point, as Go does.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
pub(super) fn go_float<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    match value.to_string().parse::<i64>() {
        Ok(whole) => serializer.serialize_i64(whole),
        Err(_) => serializer.serialize_f64(*value),
    }
}

/// Declares a struct of a document: camelCase keys, every field may be absent or null, unknown keys are errors. Fields
/// stand in the alphabetical order of their keys, because that is the order in which Kubernetes writes YAML.
macro_rules! section {
    ($(#[$meta:meta])* pub struct $name:ident { $($(#[$field_meta:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, serde::Deserialize, serde::Serialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $name {
            $(
                $(#[$field_meta])*
                #[serde(deserialize_with = "crate::config::section::Field::read")]
                pub $field: $type,
            )+
        }

        crate::config::section::fields!($name);
    };
}
pub(super) use section;
