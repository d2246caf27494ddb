//! Files, rewritten and brought back: what was replaced where, kept so that it can be undone.
//!
//! Invariant: the manifest is on disk before a file is touched; a file is replaced whole, by rename, and only while it is
//! byte for byte what was read, or what we wrote. Somebody else's change is never lost.

use super::edit::{self, Diff, Edit};
use super::{Hit, Search};
use crate::error::{Error, Result};
use crate::journal::Permit;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The content of each file, by path, as a hash.
pub type Contents = BTreeMap<String, String>;

/// What is replaced in one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Rewrite {
    pub before: String,
    pub after: String,
    /// Edits of the file as it was.
    pub edits: Vec<Edit>,
    /// Edits of the file as it becomes, which lead back.
    pub back: Vec<Edit>,
}

/// Everything that one remap replaces.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub id: String,
    pub files: BTreeMap<String, Rewrite>,
}

/// What a remap would do, and what it leaves to people.
#[derive(Debug, Default)]
pub struct Draft {
    pub manifest: Manifest,
    pub diffs: Vec<Diff>,
    /// Why a file is left alone, by path.
    pub left: BTreeMap<String, String>,
}

impl Draft {
    /// Works out what the hits of a search replace, on the files as they are now.
    pub fn new(id: &str, hits: &[Hit], search: &Search) -> Self {
        let mut draft = Self { manifest: Manifest { id: id.to_owned(), ..Manifest::default() }, ..Self::default() };
        let mut paths: Vec<&str> = hits.iter().filter(|hit| hit.edit.is_some()).map(|hit| hit.path.as_str()).collect();
        paths.dedup();
        for path in paths {
            if let Err(why) = draft.file(path, search) {
                draft.left.insert(path.to_owned(), why);
            }
        }
        draft
    }

    fn file(&mut self, path: &str, search: &Search) -> std::result::Result<(), String> {
        let status = fs::symlink_metadata(path).map_err(|error| error.to_string())?;
        if !status.is_file() {
            return Err("it is no plain file".into());
        }
        if status.nlink() > 1 {
            return Err("it has more than one name (hard links), which a replacement would part".into());
        }
        let text = fs::read(path).map_err(|error| error.to_string())?;
        // Searched anew: the edits must be those of the bytes that are hashed.
        let hits = search.text(path, &text);
        let edits = edit::edits(&hits.iter().collect::<Vec<_>>());
        if edits.is_empty() {
            return Ok(());
        }
        let changed = edit::apply(&text, &edits).ok_or("two replacements overlap")?;
        self.diffs.push(edit::diff(path, &text, &edits, &changed.bytes));
        let rewrite = Rewrite { before: hash(&text), after: hash(&changed.bytes), edits, back: changed.back };
        self.manifest.files.insert(path.to_owned(), rewrite);
        Ok(())
    }
}

impl Manifest {
    /// Keeps the manifest; only its owner reads it, for what it holds may stand beside secrets.
    ///
    /// # Errors
    /// [`Error::Journal`] where it cannot be kept: then nothing is rewritten.
    pub fn keep(&self, folder: &Path) -> Result<()> {
        let write = || -> std::io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
            let mut file =
                OpenOptions::new().write(true).create_new(true).mode(0o600).open(Self::place(folder, &self.id))?;
            serde_json::to_writer(&mut file, self)?;
            file.sync_all()?;
            File::open(folder)?.sync_all()
        };
        write().map_err(|error| Error::Journal(format!("the manifest {} in {}: {error}", self.id, folder.display())))
    }

    /// Reads a manifest; the latest where none is named.
    ///
    /// # Errors
    /// [`Error::Journal`] where there is none, or it cannot be read.
    pub fn read(folder: &Path, id: Option<&str>) -> Result<Self> {
        let id = match id {
            Some(id) => id.to_owned(),
            None => Self::all(folder).pop().ok_or_else(|| {
                Error::Journal(format!("nothing was ever remapped: no manifest in {}", folder.display()))
            })?,
        };
        let path = Self::place(folder, &id);
        let text = fs::read_to_string(&path).map_err(|error| Error::Journal(format!("{}: {error}", path.display())))?;
        serde_json::from_str(&text).map_err(|error| Error::Journal(format!("{}: {error}", path.display())))
    }

    /// Lists the manifests, the oldest first.
    pub fn all(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(std::result::Result::ok);
        let mut ids: Vec<String> = entries
            .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".manifest.json").map(str::to_owned))
            .collect();
        ids.sort();
        ids
    }

    fn place(folder: &Path, id: &str) -> PathBuf {
        // An id comes from a command line: it names a file, never a path.
        folder.join(format!("{}.manifest.json", id.replace(['/', '\0'], "_")))
    }

    /// The content that each file has in the end, or had before.
    pub fn contents(&self, rewritten: bool) -> Contents {
        let content = |rewrite: &Rewrite| if rewritten { rewrite.after.clone() } else { rewrite.before.clone() };
        self.files.iter().map(|(path, rewrite)| (path.clone(), content(rewrite))).collect()
    }

    /// The content that each file has now; a file that cannot be read has none.
    pub fn observe(&self) -> Contents {
        self.files
            .keys()
            .map(|path| (path.clone(), fs::read(path).map_or_else(|error| error.to_string(), |text| hash(&text))))
            .collect()
    }

    /// Brings each file to the content it shall have. One that already has it is left; setting twice is setting once.
    ///
    /// # Errors
    /// [`Error::Drift`] where a file is neither as it was nor as it becomes; it is not touched.
    pub fn write(&self, _permit: &Permit, to: &Contents) -> Result<()> {
        for (path, rewrite) in &self.files {
            let Some(wanted) = to.get(path) else { continue };
            let text = fs::read(path).map_err(|error| Error::remote(path, error))?;
            let found = hash(&text);
            if found == *wanted {
                continue;
            }
            let (from, edits) = if *wanted == rewrite.after {
                (&rewrite.before, &rewrite.edits)
            } else {
                (&rewrite.after, &rewrite.back)
            };
            let changed = edit::apply(&text, edits).filter(|changed| found == *from && hash(&changed.bytes) == *wanted);
            let Some(changed) = changed else {
                let short = |hash: &str| hash.get(..12).unwrap_or(hash).to_owned();
                return Err(Error::Drift {
                    step: path.clone(),
                    old: short(from),
                    new: short(wanted),
                    found: short(&found),
                });
            };
            replace(Path::new(path), &text, &changed.bytes).map_err(|error| Error::remote(path, error))?;
        }
        Ok(())
    }
}

/// Replaces a file whole: the same owner and mode, on disk before it has the name, and only over what was read.
fn replace(path: &Path, old: &[u8], new: &[u8]) -> std::io::Result<()> {
    let status = fs::symlink_metadata(path)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let half = folder.join(format!(".{name}.saltext-migrate"));
    let result = (|| {
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&half)?;
        file.write_all(new)?;
        std::os::unix::fs::fchown(&file, Some(status.uid()), Some(status.gid()))?;
        file.set_permissions(fs::Permissions::from_mode(status.mode() & 0o7777))?;
        file.sync_all()?;
        if fs::read(path)? != old {
            return Err(std::io::Error::other("somebody changed it in this very moment; it was not touched"));
        }
        fs::rename(&half, path)?;
        File::open(folder)?.sync_all()
    })();
    if result.is_err() {
        let _ = fs::remove_file(&half);
    }
    result
}

/// Hashes a content.
pub fn hash(text: &[u8]) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}
