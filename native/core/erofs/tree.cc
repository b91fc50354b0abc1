#include "core/erofs/tree.h"

#include <sys/random.h>
#include <sys/stat.h>

#include "core/unpack/layer_names.h"

namespace caisson::erofs {
namespace {

constexpr u32 kMaxLinks = 40;              // MAXSYMLINKS of the kernel
constexpr size_t kNameMax = 255;           // of a component
constexpr u64 kTextMax = u64{256} << 20;   // names, targets and attributes of one layer
constexpr u64 kChunksMax = u64{64} << 20;  // entries
constexpr size_t kFirstBuckets = 1024;

u64 mix(u64 a, u64 b) {
  const unsigned __int128 product = static_cast<unsigned __int128>(a) * b;
  return static_cast<u64>(product) ^ static_cast<u64>(product >> 64);
}

bool only_slashes(string_view rest) { return rest.find_first_not_of('/') == string_view::npos; }

}  // namespace

// A seed of its own for each tree: nobody can make an archive whose names fall into one bucket.
Result<Tree> Tree::create(bool inherits) {
  Tree tree(inherits);
  if (getrandom(tree.seed_, sizeof tree.seed_, 0) != sizeof tree.seed_) return Error::last("getrandom");
  tree.seed_[0] |= 1;
  tree.seed_[1] |= 1;
  tree.buckets_.reserve(kFirstBuckets);
  for (size_t i = 0; i < kFirstBuckets; ++i) tree.buckets_.push(kNone);
  Inode& root = tree.inode(tree.add(S_IFDIR | 0755));
  root.names = 1;
  root.implied = inherits;
  return tree;
}

u32 Tree::add(u32 mode) {
  Inode inode;
  inode.mode = mode;
  inodes_.push(inode);
  return static_cast<u32>(inodes_.size() - 1);
}

bool Tree::is_directory(u32 index) const { return S_ISDIR(inodes_[index].mode); }
bool Tree::is_whiteout(u32 index) const { return S_ISCHR(inodes_[index].mode) && inodes_[index].device == 0; }

u32 Tree::bucket(u32 directory, string_view name) const {
  u64 hash = mix(seed_[0] ^ directory, seed_[1]);
  while (!name.empty()) {
    u64 word = name.size();
    memcpy(&word, name.data(), name.size() < sizeof word ? name.size() : sizeof word);
    hash = mix(hash ^ word ^ seed_[0], seed_[1] ^ name.size());
    name.remove_prefix(name.size() < sizeof word ? name.size() : sizeof word);
  }
  return static_cast<u32>(hash & (buckets_.size() - 1));
}

u32 Tree::find(u32 directory, string_view name) const {
  for (u32 i = buckets_[bucket(directory, name)]; i != kNone; i = names_[i].same_hash)
    if (names_[i].directory == directory && text(names_[i].text) == name) return i;
  return kNone;
}

void Tree::grow() {
  const size_t size = buckets_.size() * 4;
  buckets_.clear();
  buckets_.reserve(size);
  for (size_t i = 0; i < size; ++i) buckets_.push(kNone);
  for (u32 i = 0; i < names_.size(); ++i) {
    if (names_[i].inode == kNone) continue;
    u32& head = buckets_[bucket(names_[i].directory, text(names_[i].text))];
    names_[i].same_hash = head;
    head = i;
  }
}

void Tree::add_name(u32 directory, string_view name, u32 inode) {
  if (names_.size() >= buckets_.size()) grow();
  const u32 index = static_cast<u32>(names_.size());
  u32& head = buckets_[bucket(directory, name)];
  const Text kept = {static_cast<u32>(text_.size()), static_cast<u32>(name.size())};
  text_.append(name);
  names_.push({directory, inode, head, inodes_[directory].first, kept});
  head = index;
  inodes_[directory].first = index;
  ++inodes_[inode].names;
  if (is_directory(inode)) inodes_[inode].parent = directory;
  if (is_whiteout(inode)) inodes_[directory].whiteouts = true;
}

// The name stays in its directory's list, as one that is no more.
void Tree::unlink(u32 name) {
  Name& gone = names_[name];
  u32* at = &buckets_[bucket(gone.directory, text(gone.text))];
  while (*at != name) at = &names_[*at].same_hash;
  *at = gone.same_hash;
  --inodes_[gone.inode].names;
  gone.inode = kNone;
}

void Tree::remove(u32 name) {
  Vec<u32> todo;
  todo.push(name);
  while (!todo.empty()) {
    const u32 each = todo.back();
    todo.pop();
    const u32 inode = names_[each].inode;
    if (is_directory(inode)) {
      for (u32 i = inodes_[inode].first; i != kNone; i = names_[i].next)
        if (names_[i].inode != kNone) todo.push(i);
      inodes_[inode].first = kNone;
    }
    unlink(each);
  }
}

// To a directory, making what is missing; or else to what is there, without following a link at the end.
Result<u32> Tree::walk(string_view path, bool make, i64 mtime) {
  u32 links = 0;
  u32 at = kRoot;
  String todo(path);
  string_view rest = todo;
  for (;;) {
    const string_view component = take_component(rest);
    if (component.empty()) return at;
    if (!is_directory(at)) return Error(ENOTDIR, "unpack: a parent is not a directory", path);
    if (component == ".") continue;
    if (component == "..") {
      at = inodes_[at].parent;
      continue;
    }
    if (component.size() > kNameMax) return Error(ENAMETOOLONG, "unpack: a name is too long", path);
    const u32 found = find(at, component);
    if (found == kNone) {
      if (!make) return Error(ENOENT, "unpack: no such entry", path);
      const u32 made = add(S_IFDIR | 0755);
      inodes_[made].mtime = mtime;
      inodes_[made].implied = inherits_;
      add_name(at, component, made);
      at = made;
      continue;
    }
    const u32 next = names_[found].inode;
    if (S_ISLNK(inodes_[next].mode) && (make || !only_slashes(rest))) {
      if (++links > kMaxLinks) return Error(ELOOP, "unpack: too many symbolic links", path);
      const string_view target = text(inodes_[next].link);
      String longer(target);
      longer.append('/').append(rest);
      if (target.starts_with('/')) at = kRoot;
      todo = static_cast<String&&>(longer);
      rest = todo;
      continue;
    }
    if (make && is_whiteout(next)) {
      // The whiteout hides the directory of lower layers, the entry wants one of its own: an opaque directory is both.
      String name(component);
      unlink(found);
      const u32 made = add(S_IFDIR | 0755);
      inodes_[made].mtime = mtime;
      inodes_[made].opaque = true;
      add_name(at, name, made);
      at = made;
      continue;
    }
    if (make && !is_directory(next)) return Error(ENOTDIR, "unpack: a parent is not a directory", path);
    at = next;
  }
}

Result<u32> Tree::directory(string_view path, i64 mtime) { return walk(path, true, mtime); }

Result<u32> Tree::look_up(string_view path) { return walk(path, false, 0); }

Result<Text> Tree::keep(string_view bytes) {
  CAISSON_TRY(check_room());
  const Text kept = {static_cast<u32>(text_.size()), static_cast<u32>(bytes.size())};
  text_.append(bytes);
  return kept;
}

// Asked before each entry, which adds no more than a name, a target and its attributes, themselves bounded.
Status Tree::check_room() const {
  if (text_.size() > kTextMax || chunks.size() > kChunksMax)
    return Error(E2BIG, "unpack: names and attributes are more than an index holds");
  return ok();
}

}  // namespace caisson::erofs
