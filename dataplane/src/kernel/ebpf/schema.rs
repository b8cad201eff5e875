//! Layouts in words: what a build leaves beside its maps, so that one with other layouts can read them.

use std::collections::BTreeMap;
use std::ops::Range;

use shunt_abi::version::{DESCRIPTIONS, MEANING, OLDEST_READABLE};

/// First line of the text.
const HEAD: &str = "shunt layouts";
/// Fields that mean nothing.
const PADDING: &str = "pad";

/// The layouts of one build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Schema {
    meaning: u32,
    records: BTreeMap<String, Record>,
}

/// Where the fields of one type are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Record {
    size: usize,
    fields: BTreeMap<String, Range<usize>>,
}

/// Why something of another build cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unreadable {
    /// It is not a description of layouts.
    #[error("its description cannot be read")]
    Garbled,
    /// Fields mean something else there.
    #[error("its fields have a meaning ({0}) that this build does not know")]
    Meaning(u32),
    /// There is no such type.
    #[error("it has no {0}")]
    NoRecord(&'static str),
    /// A field has no counterpart.
    #[error("field {field} of {record} has no counterpart of the same size")]
    Field { record: &'static str, field: String },
    /// The map's elements have another size than the description says.
    #[error("elements of {record} have {found} bytes, which their description does not say")]
    Size { record: &'static str, found: usize },
}

/// Whether a record is the key of a map or what is found by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// Two keys that differ must not become the same, nor get a part that nobody knows.
    Key,
    /// Fields that were not there are zero.
    Value,
}

/// How the bytes of a record of another build become those of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Conversion {
    from_size: usize,
    to_size: usize,
    moves: Vec<(Range<usize>, Range<usize>)>,
}

impl Schema {
    /// What is left beside the maps of this build.
    pub(super) fn own_text() -> String {
        format!("{HEAD}\n{MEANING}\n{}\n", DESCRIPTIONS.join("\n"))
    }

    /// Reads what a build has left.
    pub(super) fn parse(text: &str) -> Result<Self, Unreadable> {
        let mut lines = text.lines();
        if lines.next() != Some(HEAD) {
            return Err(Unreadable::Garbled);
        }
        let meaning = lines.next().and_then(|line| line.parse().ok()).ok_or(Unreadable::Garbled)?;
        let records: Option<_> = lines.filter(|line| !line.is_empty()).map(Record::parse).collect();
        Ok(Self { meaning, records: records.ok_or(Unreadable::Garbled)? })
    }

    /// Where a field is.
    pub(super) fn field(&self, record: &str, field: &str) -> Option<Range<usize>> {
        self.records.get(record)?.fields.get(field).cloned()
    }

    /// How a record of this schema becomes one of this build. `size` is that of the elements in the kernel.
    pub(super) fn conversion(
        &self,
        record: &'static str,
        part: Part,
        size: usize,
    ) -> Result<Conversion, Unreadable> {
        if !(OLDEST_READABLE..=MEANING).contains(&self.meaning) {
            return Err(Unreadable::Meaning(self.meaning));
        }
        let from = self.records.get(record).ok_or(Unreadable::NoRecord(record))?;
        if from.size != size {
            return Err(Unreadable::Size { record, found: size });
        }
        let own = DESCRIPTIONS.iter().filter_map(|text| Record::parse(text));
        let (_, to) = own.into_iter().find(|(name, _)| name == record).ok_or(Unreadable::NoRecord(record))?;
        from.conversion(&to, part).map_err(|field| Unreadable::Field { record, field })
    }
}

impl Record {
    /// Name and layout.
    fn parse(text: &str) -> Option<(String, Self)> {
        let (name, rest) = text.split_once(':')?;
        let (size, fields) = rest.split_once(':')?;
        let size = size.parse().ok()?;
        let mut starts = Vec::new();
        for field in fields.split_terminator(',') {
            let (name, offset) = field.split_once('@')?;
            starts.push((name.to_owned(), offset.parse::<usize>().ok()?));
        }
        let ends = starts.iter().skip(1).map(|(_, offset)| *offset).chain([size]).collect::<Vec<_>>();
        let ascending = starts.iter().zip(&ends).all(|((_, start), end)| start < end && *end <= size);
        let fields = starts.into_iter().zip(ends).map(|((name, start), end)| (name, start..end)).collect();
        ascending.then(|| (name.to_owned(), Self { size, fields }))
    }

    /// Moves of all fields, or the name of one that has no counterpart.
    fn conversion(&self, to: &Self, part: Part) -> Result<Conversion, String> {
        let mut moves = Vec::new();
        for (name, target) in meaningful(to) {
            match self.fields.get(name) {
                Some(source) if source.len() == target.len() => moves.push((source.clone(), target.clone())),
                None if part == Part::Value => {}
                Some(_) | None => return Err(name.clone()),
            }
        }
        let lost = meaningful(self).find(|(name, _)| part == Part::Key && !to.fields.contains_key(*name));
        match lost {
            Some((name, _)) => Err(name.clone()),
            None => Ok(Conversion { from_size: self.size, to_size: to.size, moves }),
        }
    }
}

fn meaningful(record: &Record) -> impl Iterator<Item = (&String, &Range<usize>)> {
    record.fields.iter().filter(|(name, _)| !name.starts_with(PADDING))
}

impl Conversion {
    /// The record as this build has it, which is `T`; `None` if the bytes are not such a record.
    pub(super) fn convert<T: zerocopy::FromBytes>(&self, bytes: &[u8]) -> Option<T> {
        if bytes.len() != self.from_size {
            return None;
        }
        let mut converted = vec![0_u8; self.to_size];
        for (from, to) in &self.moves {
            converted.get_mut(to.clone())?.copy_from_slice(bytes.get(from.clone())?);
        }
        T::read_from_bytes(&converted).ok()
    }
}

#[cfg(test)]
mod tests {
    use shunt_abi::affinity::{AffinityKey4, AffinityValue};
    use zerocopy::IntoBytes as _;

    use super::*;

    fn own() -> Schema {
        Schema::parse(&Schema::own_text()).unwrap()
    }

    fn schema(records: &[&str]) -> Schema {
        Schema::parse(&format!("{HEAD}\n{MEANING}\n{}\n", records.join("\n"))).unwrap()
    }

    #[test]
    fn what_is_left_is_what_is_read() {
        assert_eq!((own().meaning, own().records.len()), (MEANING, DESCRIPTIONS.len()));
        assert_eq!(own().field("Config", "hash_seed"), Some(16..20));
    }

    #[test]
    fn own_records_stay_as_they_are() {
        let value = AffinityValue { last_used: 7, backend: 8, generation: 9 };
        let conversion = own().conversion("AffinityValue", Part::Value, 16).unwrap();
        assert_eq!(conversion.convert::<AffinityValue>(value.as_bytes()), Some(value));
        assert_eq!(conversion.convert::<AffinityValue>(&[0; 15]), None);
    }

    #[test]
    fn fields_are_found_by_name_and_new_ones_are_zero() {
        let old = schema(&["AffinityValue:20:generation@0,colour@4,last_used@8,wide@16,"]);
        let bytes: Vec<u8> = [9_u32, 1, 7, 0, 2].iter().flat_map(|word| word.to_ne_bytes()).collect();
        let conversion = old.conversion("AffinityValue", Part::Value, 20).unwrap();
        let expected = AffinityValue { last_used: 7, backend: 0, generation: 9 };
        assert_eq!(conversion.convert(&bytes), Some(expected));
    }

    #[test]
    fn keys_must_be_known_whole() {
        let of = |text| schema(&[text]).conversion("AffinityKey4", Part::Key, size_of::<AffinityKey4>());
        assert!(of("AffinityKey4:8:service@0,client@4,").is_ok());
        let refused = |field: &str| Unreadable::Field { record: "AffinityKey4", field: field.to_owned() };
        assert_eq!(of("AffinityKey4:8:client@0,port@4,"), Err(refused("service")));
        assert_eq!(of("AffinityKey4:8:client@0,service@4,zone@6,"), Err(refused("service")));
        let wider = schema(&["AffinityKey4:12:client@0,service@4,zone@8,"]);
        assert_eq!(wider.conversion("AffinityKey4", Part::Key, 12), Err(refused("zone")));
        let padded = schema(&["AffinityKey4:12:client@0,service@4,pad_end@8,"]);
        assert!(padded.conversion("AffinityKey4", Part::Key, 12).is_ok());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        assert_eq!(Schema::parse("something else"), Err(Unreadable::Garbled));
        assert_eq!(Schema::parse(&format!("{HEAD}\n2\nA:8:b@x,")), Err(Unreadable::Garbled));
        assert_eq!(Schema::parse(&format!("{HEAD}\n2\nA:8:b@4,c@4,")), Err(Unreadable::Garbled));
        let later = Schema { meaning: MEANING + 1, ..own() };
        let refused = later.conversion("AffinityValue", Part::Value, 16);
        assert_eq!(refused, Err(Unreadable::Meaning(MEANING + 1)));
        let missing = schema(&[]).conversion("AffinityValue", Part::Value, 16);
        assert_eq!(missing, Err(Unreadable::NoRecord("AffinityValue")));
        let wrong = own().conversion("AffinityValue", Part::Value, 24);
        assert_eq!(wrong, Err(Unreadable::Size { record: "AffinityValue", found: 24 }));
    }
}
