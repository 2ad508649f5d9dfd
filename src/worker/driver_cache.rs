//! Directories in which GPU drivers cache compiled shaders, one for each model file.
//!
//! The sandbox denies drivers their usual cache, and without one every load compiles all shaders again. Each model has a directory of its
//! own, which no other program uses: cached shaders are code, and a model that has taken over its process must not plant code in another.

use std::env;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, DirEntry, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf, absolute};
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use crate::config::file::SandboxMode;
use crate::config::{LoadSettings, Stamp};
use crate::gpu;

/// Variables that limit a driver's cache for one model, with their values: 512 MiB. Mesa reads a bare number as gigabytes, the others as
/// bytes.
const SIZES: [(&str, &str); 3] = [
    ("MESA_SHADER_CACHE_MAX_SIZE", "512M"),
    ("__GL_SHADER_DISK_CACHE_SIZE", "536870912"),
    ("CUDA_CACHE_MAXSIZE", "536870912"),
];

/// Maximum size of all directories together, in bytes. It is enforced when a server first uses them.
const MAX_TOTAL: u64 = 2 << 30;

/// Maximum age of an unused directory.
const MAX_AGE: Duration = Duration::from_hours(90 * 24);

/// Variables with the path of the cache: for Mesa, NVIDIA's Vulkan and CUDA, AMD, and the fallback of most drivers.
const PATHS: [&str; 5] = [
    "MESA_SHADER_CACHE_DIR",
    "__GL_SHADER_DISK_CACHE_PATH",
    "CUDA_CACHE_PATH",
    "AMD_SHADER_DISK_CACHE_PATH",
    "XDG_CACHE_HOME",
];

/// Shader caches of a server's models.
#[derive(Debug, Default)]
pub(crate) struct DriverCaches {
    /// Parent of the directories, `None` if there is none. The first use finds it and cleans it up.
    root: OnceLock<Option<PathBuf>>,
}

impl DriverCaches {
    /// Creates the directory for the model of `load` and returns it. Returns `None` if the model does not use a GPU, if drivers can write
    /// their usual cache, or if the directory cannot be created.
    pub(crate) fn directory_for(&self, load: &LoadSettings) -> Option<PathBuf> {
        let is_sandboxed = cfg!(target_os = "linux") && load.sandbox != SandboxMode::Off;
        if !gpu::IN_BUILD || !load.n_gpu_layers.is_any() || !is_sandboxed {
            return None;
        }
        let root = self.root.get_or_init(|| {
            let opened = find_root().and_then(|root| prepare_root(&root).map(|()| root));
            opened
                .inspect_err(|error| {
                    tracing::info!(
                        "no shader cache, so every load on the GPU compiles its shaders again: {error}; set `XDG_CACHE_HOME` to a directory that the server can write"
                    );
                })
                .ok()
        });
        let directory = directory_in(root.as_deref()?, &load.path, load.stamp());
        create(&directory)
            .and_then(|()| File::open(&directory)?.set_modified(SystemTime::now()))
            .inspect_err(|error| {
                tracing::info!(path = %directory.display(), %error, "no shader cache for the model");
            })
            .ok()?;
        Some(directory)
    }
}

/// Returns the variables that make drivers cache in `directory`. They override a cache that the user configured, since the sandbox denies
/// that one. Sizes that the user configured stay.
pub(crate) fn variables(directory: &Path) -> impl Iterator<Item = (&'static str, OsString)> {
    let paths = PATHS.map(|name| (name, directory.into()));
    let sizes = SIZES.map(|(name, size)| (name, size.into()));
    let is_unset = |(name, _): &(&str, OsString)| env::var_os(name).is_none();
    paths.into_iter().chain(sizes.into_iter().filter(is_unset))
}

/// Returns the parent of all directories: in the cache directory of the systemd service, or else in that of the user.
fn find_root() -> io::Result<PathBuf> {
    let of_service = env::var_os("CACHE_DIRECTORY")
        .and_then(|list| env::split_paths(&list).next())
        .filter(|path| path.is_absolute());
    let of_user = || Some(dirs::cache_dir()?.join("llama-mcp-server"));
    let root = of_service.or_else(of_user);
    let root = root.ok_or_else(|| io::Error::other("the user has no cache directory"))?;
    Ok(root.join("shaders"))
}

/// Creates `root`, and removes surplus directories in it.
fn prepare_root(root: &Path) -> io::Result<()> {
    let failed = |error: io::Error| io::Error::other(format!("`{}`: {error}", root.display()));
    create(root).map_err(failed)?;
    let found = fs::read_dir(root).map_err(failed)?.filter_map(Result::ok);
    let found = found
        .filter_map(|entry| Cached::read(&entry).ok())
        .collect();
    for directory in surplus(found, SystemTime::now()) {
        // Another server may remove it at the same time.
        drop(fs::remove_dir_all(&directory));
        tracing::debug!(path = %directory.display(), "shader cache removed");
    }
    Ok(())
}

/// Returns the directory in `root` for the model file at `model` with this `stamp`. The stamp keeps a new file at the same path from getting
/// shaders that a process of the old one wrote.
fn directory_in(root: &Path, model: &Path, stamp: Stamp) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    absolute(model)
        .as_deref()
        .unwrap_or(model)
        .hash(&mut hasher);
    stamp.hash(&mut hasher);
    root.join(format!("{:016x}", hasher.finish()))
}

/// Creates `directory` and its parents, accessible only to this user.
fn create(directory: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(directory)
}

/// An existing directory of a model.
#[derive(Debug, Clone)]
struct Cached {
    path: PathBuf,
    /// Time at which a model last used it.
    used: SystemTime,
    /// Bytes of the files in it.
    bytes: u64,
}

impl Cached {
    fn read(entry: &DirEntry) -> io::Result<Self> {
        let used = entry.metadata()?.modified()?;
        let path = entry.path();
        let bytes = bytes_below(&path);
        Ok(Self { path, used, bytes })
    }
}

/// Returns the bytes of all files below `directory`. Does not follow links, since an untrusted process wrote the files.
fn bytes_below(directory: &Path) -> u64 {
    let mut directories = vec![directory.to_owned()];
    let mut bytes = 0_u64;
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(directory).into_iter().flatten();
        for entry in entries.filter_map(Result::ok) {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => directories.push(entry.path()),
                Ok(metadata) => bytes = bytes.saturating_add(metadata.len()),
                Err(_) => {}
            }
        }
    }
    bytes
}

/// Returns the directories of `found` to remove: those that are too old, and then the least recently used ones until the rest fits
/// [`MAX_TOTAL`]. Pure.
fn surplus(mut found: Vec<Cached>, now: SystemTime) -> Vec<PathBuf> {
    found.sort_by_key(|cached| std::cmp::Reverse(cached.used));
    let mut total = 0_u64;
    found.retain(|cached| {
        total = total.saturating_add(cached.bytes);
        let age = now.duration_since(cached.used).unwrap_or_default();
        age > MAX_AGE || total > MAX_TOTAL
    });
    found.into_iter().map(|cached| cached.path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_hours(24);

    fn cached(name: &str, days: u32, mebibytes: u64) -> Cached {
        Cached {
            path: name.into(),
            used: SystemTime::UNIX_EPOCH + DAY * (1000 - days),
            bytes: mebibytes << 20,
        }
    }

    fn removed(found: &[Cached]) -> Vec<PathBuf> {
        surplus(found.to_vec(), SystemTime::UNIX_EPOCH + DAY * 1000)
    }

    #[test]
    fn old_directories_are_removed_and_then_the_least_recently_used_beyond_the_limit() {
        let little = [cached("a", 1, 10), cached("b", 91, 10), cached("c", 89, 10)];
        assert_eq!(removed(&little), [PathBuf::from("b")]);
        let much = [
            cached("a", 3, 900),
            cached("b", 2, 900),
            cached("c", 1, 900),
        ];
        assert_eq!(removed(&much), [PathBuf::from("a")]);
        assert!(removed(&[]).is_empty());
    }

    #[test]
    fn a_directory_from_the_future_is_kept() {
        let future = Cached {
            used: SystemTime::UNIX_EPOCH + DAY * 2000,
            ..cached("a", 0, 1)
        };
        assert!(removed(&[future]).is_empty());
    }

    #[test]
    fn each_model_file_has_its_own_directory_whatever_path_names_it() {
        let of_stamp =
            |model: &str, stamp| directory_in(Path::new("/cache"), Path::new(model), stamp);
        let of = |model: &str| of_stamp(model, Stamp::numbered(1));
        let [one, other] = [1, 2].map(Stamp::numbered);
        assert_ne!(of_stamp("a.gguf", one), of_stamp("a.gguf", other));
        assert_ne!(of("/models/a.gguf"), of("/models/b.gguf"));
        let here = env::current_dir().unwrap().join("a.gguf");
        assert_eq!(of("a.gguf"), of(here.to_str().unwrap()));
        assert_eq!(of("/models/a.gguf").parent(), Some(Path::new("/cache")));
    }

    #[test]
    fn every_driver_gets_the_directory_and_a_limit() {
        let directory = Path::new("/cache/1");
        let set: Vec<_> = variables(directory).collect();
        for name in PATHS {
            assert!(set.contains(&(name, directory.into())), "{name}");
        }
        assert!(set.contains(&("CUDA_CACHE_MAXSIZE", "536870912".into())));
    }

    #[test]
    fn the_size_of_a_directory_includes_its_subdirectories() {
        let root = env::temp_dir().join(format!("llama-mcp-shaders-{}", std::process::id()));
        drop(fs::remove_dir_all(&root));
        let model = directory_in(&root, Path::new("a.gguf"), Stamp::default());
        create(&model.join("inner")).unwrap();
        fs::write(model.join("one"), [0; 10]).unwrap();
        fs::write(model.join("inner/two"), [0; 32]).unwrap();
        assert_eq!(bytes_below(&model), 42);
        prepare_root(&root).unwrap();
        assert!(model.exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
