//! How much is left of a map in which every element is like any other.

/// Elements in use, of those that a map can hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Room {
    capacity: u32,
    used: u32,
}

impl Room {
    pub(super) const fn new(capacity: u32) -> Self {
        Self { capacity, used: 0 }
    }

    /// Elements in use.
    pub(super) const fn used(self) -> u32 {
        self.used
    }

    /// Whether there is room for another element.
    pub(super) const fn is_left(self) -> bool {
        self.used < self.capacity
    }

    /// Takes room for an element; false if there is none.
    pub(super) const fn take(&mut self) -> bool {
        let is_left = self.is_left();
        self.used += is_left as u32;
        is_left
    }

    /// Gives back the room of an element.
    pub(super) const fn give(&mut self) {
        self.used = self.used.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_that_is_given_back_can_be_taken_again() {
        let mut room = Room::new(1);
        assert!(room.take() && !room.take());
        room.give();
        room.give();
        assert_eq!(room.used(), 0);
        assert!(room.take());
    }
}
