#include "oci/usage.h"

#include "core/build_id.h"

namespace caisson::oci {

namespace {

constexpr string_view kVersion =
#include "core/version.inc"
    ;

void pad(String& out, size_t from, size_t width) {
  for (size_t used = out.size() - from; used < width; ++used) out.append(' ');
  out.append("  ");
}

void append_flags(String& out, span<const Flag> flags) {
  auto label = [](String& line, const Flag& flag) {
    line.append("   --").append(flag.name);
    if (flag.kind != FlagKind::kSwitch) line.append(" value");
    if (flag.letter != 0) line.append(", -").append(flag.letter);
  };
  size_t width = 0;
  for (const Flag& flag : flags) {
    String line;
    label(line, flag);
    if (line.size() > width) width = line.size();
  }
  for (const Flag& flag : flags) {
    const size_t from = out.size();
    label(out, flag);
    pad(out, from, width);
    out.append(flag.help).append('\n');
  }
}

}  // namespace

void append_usage(String& out, span<const Command* const> commands, span<const Flag> globals, string_view root) {
  out.append(
      "NAME:\n   caisson-oci - Open Container Initiative runtime, with the command line of runc\n\n"
      "USAGE:\n   caisson-oci [global options] command [command options] [arguments...]\n\nCOMMANDS:\n");
  for (const Command* command : commands) {
    const size_t from = out.size();
    out.append("   ").append(command->name);
    pad(out, from, 13);
    out.append(command->summary).append('\n');
  }
  out.append("\nGLOBAL OPTIONS:\n");
  append_flags(out, globals);
  out.append("\nThe state directory (--root) is ").append(root).append(" unless given.\n");
}

void append_usage(String& out, const Command& command) {
  out.append("NAME:\n   caisson-oci ").append(command.name).append(" - ").append(command.summary);
  out.append("\n\nUSAGE:\n   caisson-oci ").append(command.name);
  if (!command.flags.empty()) out.append(" [command options]");
  if (!command.operands.empty()) out.append(' ').append(command.operands);
  out.append('\n');
  if (!command.notes.empty()) out.append('\n').append(command.notes);
  if (!command.flags.empty()) out.append("\nOPTIONS:\n");
  append_flags(out, command.flags);
}

void append_version(String& out) {
  out.append("runc version ").append(kVersion).append("\ncommit: ").append(build_id());
  out.append("\nspec: ").append(kSpecVersion).append("\ncaisson-oci: ").append(kVersion).append('\n');
}

}  // namespace caisson::oci
