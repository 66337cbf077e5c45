//! Room for what is granted: files made and blocks added, those of many instances synced together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Store;
use super::grant::Granting;
use super::instance::{Form, Instance};
use crate::File;
use crate::file::{Block, DirectoryEntry, FIRST_BLOCK_AT, Header, Slot, slot_at};

/// What has been written for one grant, and is to be synced.
#[derive(Default)]
struct Written {
    file: Option<Arc<dyn File>>,
    /// The name that a new file is made under, so that an archive is either whole or not there.
    unfinished: Option<PathBuf>,
}

impl Store {
    /// Makes the room that these grants need; it lasts where the answer is good.
    pub(super) fn make_rooms<'a, 'b: 'a>(
        &self,
        granting: impl Iterator<Item = &'a mut Granting<'b>>,
    ) -> Vec<io::Result<()>> {
        let mut granting: Vec<_> = granting.collect();
        let mut rooms: Vec<io::Result<Written>> =
            granting.iter().map(|one| self.write_room(one)).collect();
        let written = || rooms.iter().flatten().filter_map(|room| room.file.clone());
        let mut synced = self.handles.disk().sync_each(&written().collect::<Vec<_>>()).into_iter();
        for (room, one) in rooms.iter_mut().zip(&granting) {
            if let Ok(Written { file: Some(_), unfinished }) = room {
                let synced = synced.next().expect("an answer for each file");
                if let Err(reason) = self.settle(one.instance, unfinished.as_deref(), synced) {
                    *room = Err(reason);
                }
            }
        }
        let is_new =
            |room: &io::Result<Written>| matches!(room, Ok(Written { unfinished: Some(_), .. }));
        let named =
            if rooms.iter().any(is_new) { self.handles.disk().sync_dir(&self.dir) } else { Ok(()) };
        let settled = rooms.into_iter().zip(&mut granting).map(|(room, one)| {
            if room?.unfinished.is_some() {
                named
                    .as_ref()
                    .map_err(|reason| io::Error::new(reason.kind(), reason.to_string()))?;
                one.growth.has_file = true;
            }
            Ok(())
        });
        settled.collect()
    }

    /// Writes what a grant needs; nothing of it is sure to last.
    fn write_room(&self, granting: &Granting<'_>) -> io::Result<Written> {
        let (instance, layout, blocks) = (granting.instance, &granting.layout, granting.blocks());
        if blocks.is_empty() {
            return Ok(Written::default());
        }
        if !granting.growth.has_file {
            return self.write_file(instance, &granting.forms.file, blocks);
        }
        if let Some(next) = &granting.forms.next {
            self.add_to_next(instance, next, (layout, blocks))?;
        }
        let file = self.handles.file(instance.id, &instance.path)?;
        add_blocks(file.as_ref(), layout, blocks)?;
        Ok(Written { file: Some(file), unfinished: None })
    }

    /// The same columns in the file that the round of a change is to write. They last there before the
    /// first of them is written here: what a start finds of this file it expects of that one.
    fn add_to_next(
        &self,
        instance: &Instance,
        next: &Form,
        (layout, blocks): (&[Block], &[Block]),
    ) -> io::Result<()> {
        let file = match self.handles.disk().open(&instance.next_path()) {
            // The round makes it anew, with all columns there are by then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            found => found?,
        };
        let all: Vec<_> = layout.iter().chain(blocks).cloned().collect();
        let laid = next.lay_all(&all);
        let (old, new) = laid.split_at(layout.len());
        add_blocks(file.as_ref(), old, new)?;
        file.sync_data()
    }

    fn write_file(
        &self,
        instance: &Instance,
        form: &Form,
        blocks: &[Block],
    ) -> io::Result<Written> {
        let disk = self.handles.disk();
        let unfinished = instance.path.with_extension("new");
        let file = match disk.create(&unfinished) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                disk.remove(&unfinished)?;
                disk.create(&unfinished)?
            }
            created => created?,
        };
        let policy = form.policy.clone();
        let header = Header { instance: instance.id, policy, views: String::new() };
        if let Err(error) = write_all(file.as_ref(), &header, blocks) {
            // Best effort: what is left over is removed at the next start.
            drop(disk.remove(&unfinished));
            return Err(error);
        }
        Ok(Written { file: Some(file), unfinished: Some(unfinished) })
    }

    /// Gives a new file its name, once it lasts.
    fn settle(
        &self,
        instance: &Instance,
        unfinished: Option<&Path>,
        synced: io::Result<()>,
    ) -> io::Result<()> {
        let disk = self.handles.disk();
        let Some(unfinished) = unfinished else { return synced };
        if let Err(error) = synced {
            drop(disk.remove(unfinished));
            return Err(error);
        }
        disk.rename(unfinished, &instance.path)
    }
}

/// Reserves a new file, writes all but what a round does, and syncs it.
pub(super) fn fill(file: &dyn File, header: &Header, blocks: &[Block]) -> io::Result<()> {
    write_all(file, header, blocks)?;
    file.sync_data()
}

/// Up to the end of the first block's head at once, since every part written by itself is an extent of
/// its own; and before room is reserved, since what is written into reserved room has to be turned into
/// data first, at every sync.
fn write_all(file: &dyn File, header: &Header, blocks: &[Block]) -> io::Result<()> {
    let mut head = vec![0; index(FIRST_BLOCK_AT)];
    let mut put = |bytes: &[u8], at: u64| head[index(at)..][..bytes.len()].copy_from_slice(bytes);
    put(&header.encode(), 0);
    put(&Slot::default().encode(), slot_at(0));
    for (number, block) in blocks.iter().enumerate() {
        put(&block.directory_entry().encode(), DirectoryEntry::at(number));
    }
    let (first, others) = blocks.split_at(blocks.len().min(1));
    head.extend(first.iter().flat_map(Block::encode));
    file.write_at(&head, 0)?;
    file.allocate(0, blocks.last().map_or(FIRST_BLOCK_AT, Block::end))?;
    for block in others {
        file.write_at(&block.encode(), block.offset)?;
    }
    Ok(())
}

fn index(at: u64) -> usize {
    usize::try_from(at).expect("within the head of a file, 20 KiB")
}

/// Adds blocks behind those there are.
fn add_blocks(file: &dyn File, layout: &[Block], blocks: &[Block]) -> io::Result<()> {
    let start = layout.last().map_or(FIRST_BLOCK_AT, Block::end);
    let end = blocks.last().map_or(start, Block::end);
    file.allocate(start, end - start)?;
    write_blocks(file, layout.len(), blocks)
}

/// Heads first, the directory after them; one sync covers both, and an entry without its block is
/// taken for a grant that was cut short.
pub(super) fn write_blocks(
    file: &dyn File,
    first_number: usize,
    blocks: &[Block],
) -> io::Result<()> {
    for (number, block) in (first_number..).zip(blocks) {
        file.write_at(&block.encode(), block.offset)?;
        file.write_at(&block.directory_entry().encode(), DirectoryEntry::at(number))?;
    }
    Ok(())
}
