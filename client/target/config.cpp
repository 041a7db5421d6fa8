#include "client/target/config.h"

#include <sys/stat.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

#include "attestation/base/toml.h"

namespace sallyport::gate {
namespace {

constexpr std::size_t kMaxConfigBytes = 64 * 1024;
constexpr std::size_t kMaxAccounts = 64;  // as many as a table of our TOML has keys

Error wrong(std::string what) {
  return Error{Code::kMalformed, Reason::kUsage, "gate.toml: " + std::move(what)};
}

Result<std::string> text_of(const TomlNode& node, std::string_view key) {
  if (node.kind != TomlNode::Kind::kString || node.text.empty() || node.text.size() > 1024)
    return wrong(std::string{key} + " is not text");
  return node.text;
}

Result<std::string> absolute_path(const TomlNode& node, std::string_view key) {
  SP_TRY(std::string text, text_of(node, key));
  if (text.front() != '/') return wrong(std::string{key} + " is not an absolute path");
  return text;
}

bool is_account_name(std::string_view name) {
  if (name.empty() || name.size() > 32 || name.front() == '-') return false;
  for (const char c : name)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
          c == '-' || c == '.'))
      return false;
  return true;
}

Status read_accounts(const TomlNode& node, std::map<std::string, std::string>& accounts) {
  if (node.kind != TomlNode::Kind::kTable || node.fields.empty() || node.fields.size() > kMaxAccounts)
    return wrong("accounts is a table of 1 to 64 accounts");
  for (const auto& [name, shell] : node.fields) {
    if (!is_account_name(name)) return wrong("accounts: " + name + " is no name");
    SP_TRY(accounts[name], absolute_path(shell, "accounts." + name));
  }
  return Done{};
}

}  // namespace

Result<Config> parse_config(std::string_view text) {
  if (text.size() > kMaxConfigBytes) return wrong("longer than 64 KiB");
  const auto table = parse_toml(text);
  if (!table.has_value()) return wrong(table.error().what);
  Config config;
  for (const auto& [key, node] : table->fields) {
    if (key == "host") {
      SP_TRY(config.host, text_of(node, key));
    } else if (key == "url") {
      SP_TRY(config.url, text_of(node, key));
    } else if (key == "host_key") {
      SP_TRY(config.host_key, absolute_path(node, key));
    } else if (key == "trust") {
      SP_TRY(config.trust, absolute_path(node, key));
    } else if (key == "state") {
      SP_TRY(config.state, absolute_path(node, key));
    } else if (key == "sessions_without_cgroups") {
      if (node.kind != TomlNode::Kind::kBoolean) return wrong(key + " is neither true nor false");
      config.sessions_without_cgroups = node.boolean;
    } else if (key == "sshd") {
      if (node.kind != TomlNode::Kind::kArray || node.items.empty() || node.items.size() > 8)
        return wrong("sshd is a list of 1 to 8 paths");
      config.sshd.clear();
      for (const TomlNode& program : node.items) {
        SP_TRY(std::string path, absolute_path(program, key));
        config.sshd.push_back(std::move(path));
      }
    } else if (key == "accounts") {
      SP_CHECK(read_accounts(node, config.accounts));
    } else {
      return wrong("unknown key " + key);
    }
  }
  for (const auto& [missing, key] : {std::pair{config.host.empty(), "host"},
                                     {config.host_key.empty(), "host_key"},
                                     {config.url.empty(), "url"},
                                     {config.trust.empty(), "trust"},
                                     {config.state.empty(), "state"},
                                     {config.accounts.empty(), "accounts"}})
    if (missing) return wrong(std::string{key} + " is missing");
  return config;
}

Result<Config> load_config(const std::filesystem::path& file) {
  struct stat found {};
  if (::stat(file.c_str(), &found) != 0)
    return Error{Code::kMalformed, Reason::kUsage, "cannot read " + file.string()};
  if ((found.st_uid != 0 && found.st_uid != ::geteuid()) || (found.st_mode & (S_IWGRP | S_IWOTH)) != 0)
    return Error{Code::kMalformed, Reason::kUsage, file.string() + " can be written by others than root"};
  std::ifstream in{file, std::ios::binary};
  if (!in) return Error{Code::kMalformed, Reason::kUsage, "cannot read " + file.string()};
  return parse_config(std::string{std::istreambuf_iterator<char>{in}, std::istreambuf_iterator<char>{}});
}

}  // namespace sallyport::gate
