//! Who holds which cells of a pool that all sequences share: pure arithmetic over counts, so that a call is admitted only
//! when its cells can be had. llama.cpp places the cells; here they have numbers of their own.

/// A cell's number.
pub(crate) type Cell = u32;

/// The cells of a pool, each with the number of sequences that hold it.
#[derive(Debug)]
pub(crate) struct Cells {
    holders: Vec<u16>,
    free: Vec<Cell>,
}

impl Cells {
    /// A pool of `cells`, all free.
    pub(crate) fn new(cells: u32) -> Self {
        Self {
            holders: vec![0; cells as usize],
            free: (0..cells).rev().collect(),
        }
    }

    /// A free cell; none where all are held.
    pub(crate) fn take(&mut self) -> Option<Cell> {
        let cell = self.free.pop()?;
        self.holders[cell as usize] = 1;
        Some(cell)
    }

    /// One sequence more holds them.
    pub(crate) fn share(&mut self, cells: &[Cell]) {
        for cell in cells {
            self.holders[*cell as usize] += 1;
        }
    }

    /// One sequence less holds them; who is held by none is free.
    pub(crate) fn release(&mut self, cells: impl IntoIterator<Item = Cell>) {
        for cell in cells {
            let holders = &mut self.holders[cell as usize];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.holders.len()
    }

    /// How many nobody holds.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// How many there are that none of `kept` holds, each a sequence's cells: what can be had when all others go.
    pub(crate) fn without<'a>(&self, kept: impl Iterator<Item = &'a [Cell]>) -> usize {
        let mut is_kept = vec![false; self.holders.len()];
        for cell in kept.flatten() {
            is_kept[*cell as usize] = true;
        }
        is_kept.iter().filter(|kept| !**kept).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cell_is_free_when_nobody_holds_it_any_more() {
        let mut cells = Cells::new(3);
        let own: Vec<Cell> = (0..2).filter_map(|_| cells.take()).collect();
        cells.share(&own[..1]);
        assert_eq!(cells.free(), 1);
        cells.release(own.iter().copied());
        assert_eq!(cells.free(), 2);
        cells.release(own[..1].iter().copied());
        assert_eq!(cells.free(), 3);
    }

    #[test]
    fn what_is_held_twice_is_kept_once() {
        let mut cells = Cells::new(4);
        let own: Vec<Cell> = (0..3).filter_map(|_| cells.take()).collect();
        cells.share(&own[..2]);
        assert_eq!(cells.without([&own[..], &own[..2]].into_iter()), 1);
        assert_eq!(cells.without(std::iter::empty()), 4);
        while cells.take().is_some() {}
        assert_eq!(cells.free(), 0);
    }
}
