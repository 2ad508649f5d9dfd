//! Reference counts of the cells in a pool that all sequences share. Pure.
//!
//! Admission uses the counts to reserve cells. llama.cpp places the cells in memory; the numbers here are our own.

/// Number of a cell in a [`CellPool`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell(u32);

impl Cell {
    fn index(self) -> usize {
        self.0 as usize
    }
}

/// A pool of cells, each with the number of sequences that hold it.
#[derive(Debug)]
pub(crate) struct CellPool {
    holders: Vec<u16>,
    free: Vec<Cell>,
}

impl CellPool {
    /// Creates a pool of `cells` free cells.
    pub(crate) fn new(cells: u32) -> Self {
        Self {
            holders: vec![0; cells as usize],
            free: (0..cells).rev().map(Cell).collect(),
        }
    }

    /// Allocates a free cell. Returns `None` if there is none.
    pub(crate) fn allocate(&mut self) -> Option<Cell> {
        let cell = self.free.pop()?;
        self.holders[cell.index()] = 1;
        Some(cell)
    }

    /// Adds a holder to each of `cells`.
    pub(crate) fn share(&mut self, cells: &[Cell]) {
        for cell in cells {
            self.holders[cell.index()] += 1;
        }
    }

    /// Removes a holder from each of `cells`. A cell without a holder is free.
    pub(crate) fn release(&mut self, cells: impl IntoIterator<Item = Cell>) {
        for cell in cells {
            let holders = &mut self.holders[cell.index()];
            *holders -= 1;
            if *holders == 0 {
                self.free.push(cell);
            }
        }
    }

    /// Returns the number of all cells.
    pub(crate) fn len(&self) -> usize {
        self.holders.len()
    }

    /// Returns the number of free cells.
    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    /// Returns the number of cells outside `kept`, each the cells of a sequence: those that are free once all other sequences are evicted.
    pub(crate) fn count_outside<'a>(&self, kept: impl Iterator<Item = &'a [Cell]>) -> usize {
        let mut is_kept = vec![false; self.holders.len()];
        for cell in kept.flatten() {
            is_kept[cell.index()] = true;
        }
        is_kept.iter().filter(|kept| !**kept).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_cell_is_free_once_its_last_holder_releases_it() {
        let mut cells = CellPool::new(3);
        let own: Vec<Cell> = (0..2).filter_map(|_| cells.allocate()).collect();
        cells.share(&own[..1]);
        assert_eq!(cells.free(), 1);
        cells.release(own.iter().copied());
        assert_eq!(cells.free(), 2);
        cells.release(own[..1].iter().copied());
        assert_eq!(cells.free(), 3);
    }

    #[test]
    fn a_shared_cell_counts_once() {
        let mut cells = CellPool::new(4);
        let own: Vec<Cell> = (0..3).filter_map(|_| cells.allocate()).collect();
        cells.share(&own[..2]);
        assert_eq!(cells.count_outside([&own[..], &own[..2]].into_iter()), 1);
        assert_eq!(cells.count_outside(std::iter::empty()), 4);
        while cells.allocate().is_some() {}
        assert_eq!(cells.free(), 0);
    }
}
