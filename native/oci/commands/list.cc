#include <fcntl.h>

#include "core/directory.h"
#include "oci/command.h"
#include "oci/files.h"
#include "oci/listing.h"
#include "oci/log.h"
#include "oci/state.h"

namespace caisson::oci {

namespace {

constexpr Flag kFlags[] = {
    {"format", 'f', FlagKind::kText, "table (default) or json"},
    {"quiet", 'q', FlagKind::kSwitch, "only ids"},
};

struct Row {
  State state;
  ContainerStatus status;
  String owner;
};

Outcome<Vec<Row>> read_rows(Store& store) {
  Vec<Row> rows;
  Fd dir(openat(store.dir(), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!dir) return Error::last("open", "the state directory");
  DirectoryReader reader(dir.get());
  for (;;) {
    DirectoryReader::Entry entry = OCI_TRY(reader.next());
    if (entry.name == nullptr) return rows;
    if (!is_container_id(entry.name)) continue;
    Outcome<Slot> slot = store.find(entry.name);
    if (!slot) continue;  // deleted meanwhile, or no directory
    Outcome<State> state = load_state(*slot);
    if (!state) {
      // A create under way has no record yet, one that was deleted has none any more.
      if (slot->has("state.json")) log(Level::kWarning, state.error().text);
      continue;
    }
    const ContainerStatus status = status_of(*slot, *state);
    rows.push({state.take(), status, owner_of(slot->dir())});
  }
}

void sort(Vec<Row>& rows) {
  for (size_t i = 1; i < rows.size(); ++i)
    for (size_t j = i; j != 0 && rows[j].state.id.view() < rows[j - 1].state.id.view(); --j)
      std::swap(rows[j], rows[j - 1]);
}

constexpr size_t kColumns = 6;

void cells_of(const Row& row, String (&cells)[kColumns]) {
  const bool stopped = row.status == ContainerStatus::kStopped;
  cells[0].append(row.state.id);
  cells[1].append_i64(stopped ? 0 : row.state.pid);
  cells[2].append(status_word(row.status));
  cells[3].append(row.state.bundle);
  cells[4].append(row.state.created);
  cells[5].append(row.owner);
}

// Columns as Go's tabwriter makes them for runc: at least 12 wide, 3 spaces between, the last one as it is.
void append_table(String& out, const Vec<Row>& rows) {
  constexpr string_view kTitles[kColumns] = {"ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"};
  size_t width[kColumns] = {};
  for (size_t c = 0; c < kColumns; ++c) width[c] = kTitles[c].size();
  for (const Row& row : rows) {
    String cells[kColumns];
    cells_of(row, cells);
    for (size_t c = 0; c < kColumns; ++c)
      if (cells[c].size() > width[c]) width[c] = cells[c].size();
  }
  auto put = [&](size_t column, string_view text) {
    out.append(text);
    if (column + 1 == kColumns) {
      out.append('\n');
      return;
    }
    const size_t whole = width[column] + 3 < 12 ? 12 : width[column] + 3;
    for (size_t used = text.size(); used < whole; ++used) out.append(' ');
  };
  for (size_t c = 0; c < kColumns; ++c) put(c, kTitles[c]);
  for (const Row& row : rows) {
    String cells[kColumns];
    cells_of(row, cells);
    for (size_t c = 0; c < kColumns; ++c) put(c, cells[c]);
  }
}

Outcome<int> run(const Call& call) {
  const string_view format = call.options.text("format", "table");
  if (format != "table" && format != "json") return Fault::text_of("invalid format option: ", format);
  Vec<Row> rows;
  Result<Store> store = Store::open(call.globals.root, false);
  if (store)
    rows = OCI_TRY(read_rows(*store));
  else if (store.error().err != ENOENT || call.globals.root_given)
    return store.error();
  sort(rows);
  String out;
  if (call.options.on("quiet")) {
    for (const Row& row : rows) out.append(row.state.id).append('\n');
  } else if (format == "json") {
    JsonWriter json(out);
    json.begin_array();
    for (const Row& row : rows) append_state(json, row.state, row.status, true, row.owner);
    json.end_array();
    out.append('\n');
  } else {
    append_table(out, rows);
  }
  OCI_TRY(print(out));
  return 0;
}

}  // namespace

constexpr Command kList = {"list", "list containers", "", 0, 0, FlagOrder::kAnywhere, kFlags, run};

}  // namespace caisson::oci
