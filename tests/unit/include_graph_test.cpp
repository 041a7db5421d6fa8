// The floor plan of the house, read from the #include lines: arrows point down only, and the verification
// core does no I/O.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/files.h"

namespace sallyport::test {
namespace {

namespace fs = std::filesystem;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

// What each room stands on. A room may include itself and whatever is reached downwards from here.
// broker/keyguard:client is what the other side of the guard's socket may see of it, a target of its own;
// client is the program sallyport, which knows every person's room.
const std::map<std::string, std::vector<std::string>, std::less<>> kFloorPlan = {
    {"attestation/base", {}},
    {"attestation/program", {"attestation/base"}},
    {"attestation/crypto", {"attestation/base"}},
    {"attestation/evidence", {"attestation/crypto"}},
    {"attestation/ledger", {"attestation/crypto"}},
    {"attestation/policy", {"attestation/crypto"}},
    {"attestation/record", {"attestation/evidence", "attestation/ledger", "attestation/policy"}},
    {"attestation/api", {"attestation/record"}},
    {"attestation/net", {"attestation/crypto", "attestation/program"}},
    {"attestation/sqlite", {"attestation/base"}},
    {"attestation/tpm", {"attestation/evidence"}},
    {"attestation/follow", {"attestation/record", "attestation/sqlite"}},
    {"hsm-config/pkcs11", {"attestation/crypto"}},
    {"hsm-config/ceremony",
     {"hsm-config/pkcs11", "attestation/ledger", "attestation/policy", "attestation/program"}},
    {"broker/store", {"attestation/record", "attestation/sqlite"}},
    {"broker/ledger", {"broker/store", "attestation/net"}},
    {"broker/credentials", {"attestation/record"}},
    {"broker/keyguard:client", {"attestation/record", "attestation/net"}},
    {"broker/keyguard",
     {"broker/keyguard:client", "broker/credentials", "attestation/follow", "hsm-config/pkcs11",
      "attestation/program"}},
    {"broker/sessions", {"broker/ledger", "broker/keyguard:client", "attestation/api"}},
    {"broker/http", {"broker/sessions", "attestation/net", "attestation/follow", "attestation/program"}},
    {"client/connection",
     {"attestation/api", "attestation/follow", "attestation/net", "attestation/tpm", "attestation/program"}},
    {"client/terminal", {"client/connection", "hsm-config/pkcs11"}},
    {"client/engineer", {"client/terminal", "broker/credentials"}},
    {"client/approver", {"client/terminal", "broker/credentials"}},
    {"client/auditor", {"client/terminal", "broker/credentials"}},
    {"client/admin", {"client/terminal", "broker/credentials"}},
    {"client/evidence", {"client/terminal"}},
    // a gate is a peer of the broker like any other
    {"client/target", {"client/connection", "broker/credentials"}},
    {"client/witness",
     {"attestation/ledger", "attestation/net", "attestation/sqlite", "attestation/program",
      "hsm-config/pkcs11"}},
    {"client", {"client/engineer", "client/approver", "client/auditor", "client/admin", "client/evidence"}},
};

const std::set<std::string, std::less<>> kCore = {"attestation/base",     "attestation/crypto",
                                                  "attestation/evidence", "attestation/ledger",
                                                  "attestation/policy",   "attestation/record"};

// All that the core may include from outside the repository. <chrono> is for durations: clocks are caught by
// name below.
const std::set<std::string, std::less<>> kCoreHeaders = {
    "algorithm", "array", "atomic", "bit", "cassert", "cerrno", "charconv", "chrono", "compare", "concepts",
    "cstddef", "cstdint", "cstdio", "cstdlib", "cstring", "ctime", "deque", "functional", "initializer_list",
    "iterator", "limits", "list", "map", "memory", "new", "numeric", "optional", "queue", "ranges", "set",
    "span", "string", "string_view", "system_error", "tuple", "type_traits", "unordered_map", "unordered_set",
    "utility", "variant", "vector", "version",
    // pure conversions between an address and its text
    "arpa/inet.h",
    // the JSON parser that record's canonical reader is built on
    "boost/json/basic_parser_impl.hpp",
    // libcrypto's arithmetic and formats
    "openssl/asn1.h", "openssl/asn1t.h", "openssl/bio.h", "openssl/bn.h", "openssl/core_names.h",
    "openssl/crypto.h", "openssl/ec.h", "openssl/ecdsa.h", "openssl/err.h", "openssl/evp.h", "openssl/hmac.h",
    "openssl/kdf.h", "openssl/obj_mac.h", "openssl/objects.h", "openssl/param_build.h", "openssl/params.h",
    "openssl/pem.h", "openssl/rsa.h", "openssl/sha.h", "openssl/x509.h", "openssl/x509_vfy.h",
    "openssl/x509v3.h"};

// Clocks, randomness, environment, files and terminals, by the names that code calls them.
const std::vector<std::string_view> kCoreWords = {
    "::now(",     "RAND_",   "time(nullptr", "time(NULL",  "clock_gettime", "gettimeofday",
    "getenv(",    "fopen(",  "BIO_new_file", "BIO_new_fp", "rand()",        "random()",
    "getrandom(", "printf(", "std::cout",    "std::cerr",  "thread_local",  "std::mutex"};

// The few files of the core that must do one such thing: the word or header, and why.
const std::map<std::string, std::set<std::string, std::less<>>, std::less<>> kCoreExceptions = {
    // the one door to randomness; nothing else of the core may include it (see below)
    {"attestation/crypto/random.h", {"openssl/rand.h", "RAND_"}},
    // SP_ASSERT says what broke before it stops the process
    {"attestation/base/error.cpp", {"printf("}},
};

// Foreign libraries that live in one room; everyone else goes through that room.
const std::vector<std::pair<std::string_view, std::vector<std::string_view>>> kOwned = {
    {"boost/beast", {"attestation/net"}},
    {"boost/asio", {"attestation/net"}},
    {"sqlite3.h", {"attestation/sqlite"}},
    {"p11-kit/", {"hsm-config/pkcs11"}},
    {"prometheus/", {"client/witness"}},
    {"tss2/", {"attestation/tpm"}},
    {"systemd/sd-daemon.h", {"attestation/program"}},
    {"systemd/sd-bus.h", {"client/engineer"}},
};

std::string room_of(std::string_view path) {
  static const std::set<std::string_view> kGuardsClient = {
      "broker/keyguard/client.h", "broker/keyguard/client.cpp", "broker/keyguard/protocol.h",
      "broker/keyguard/protocol.cpp"};
  if (kGuardsClient.contains(path)) return "broker/keyguard:client";
  const auto slash = path.rfind('/');
  return std::string{slash == path.npos ? "" : path.substr(0, slash)};
}

// below gives a room and all that it may include.
std::set<std::string> below(const std::string& room) {
  std::set<std::string> found;
  std::vector<std::string> open = {room};
  while (!open.empty()) {
    const std::string next = open.back();
    open.pop_back();
    if (!found.insert(next).second) continue;
    if (const auto it = kFloorPlan.find(next); it != kFloorPlan.end())
      open.insert(open.end(), it->second.begin(), it->second.end());
  }
  return found;
}

bool excepted(std::string_view path, std::string_view what) {
  const auto it = kCoreExceptions.find(path);
  return it != kCoreExceptions.end() && it->second.contains(what);
}

struct Include {
  std::string name;
  bool ours = false;  // "…" and not <…>
};

std::optional<Include> parse_include(std::string_view line) {
  const auto skip = [&line] { line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size())); };
  skip();
  if (!line.starts_with('#')) return std::nullopt;
  line.remove_prefix(1);
  skip();
  if (!line.starts_with("include")) return std::nullopt;
  line.remove_prefix(7);
  skip();
  if (line.empty() || (line[0] != '"' && line[0] != '<')) return std::nullopt;
  const bool ours = line[0] == '"';
  line.remove_prefix(1);
  const auto end = line.find(ours ? '"' : '>');
  if (end == line.npos) return std::nullopt;
  return Include{std::string{line.substr(0, end)}, ours};
}

std::optional<std::string> judge(std::string_view path, const std::string& room, const Include& include) {
  const bool is_core = kCore.contains(room);
  if (!include.ours) {
    for (const auto& [prefix, owners] : kOwned)
      if (include.name.starts_with(prefix) && std::find(owners.begin(), owners.end(), room) == owners.end())
        return "<" + include.name + "> belongs to " + std::string{owners.front()};
    if (is_core && !kCoreHeaders.contains(include.name) && !excepted(path, include.name))
      return "<" + include.name + "> is not on the verification core's list";
    return std::nullopt;
  }
  const std::string target = room_of(include.name);
  if (!kFloorPlan.contains(target)) return "\"" + include.name + "\" is in no room of the floor plan";
  if (!below(room).contains(target)) return room + " may not include " + target + " (" + include.name + ")";
  if (is_core && include.name == "attestation/crypto/random.h")
    return "the verification core takes its nonces as arguments";
  return std::nullopt;
}

// violations names every broken rule of one file as "path:line: what".
std::vector<std::string> violations(std::string_view path, std::string_view text) {
  const std::string room = room_of(path);
  if (!kFloorPlan.contains(room))
    return {std::string{path} + ":1: " + room + " is in no room of the floor plan"};
  std::vector<std::string> found;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    const auto report = [&](const std::string& what) {
      found.push_back(std::string{path} + ":" + std::to_string(number) + ": " + what);
    };
    if (const auto include = parse_include(line)) {
      if (const auto what = judge(path, room, *include)) report(*what);
      continue;
    }
    if (!kCore.contains(room)) continue;
    line = line.substr(0, line.find("//"));
    for (const std::string_view word : kCoreWords)
      if (line.find(word) != line.npos && !excepted(path, word))
        report("the verification core does no I/O: " + std::string{word});
  }
  return found;
}

// sources_of_the_house gives every source and header outside tests/, relative to the repository's root.
std::vector<std::string> sources_of_the_house() {
  std::vector<std::string> found;
  for (const char* wing : {"attestation", "hsm-config", "broker", "client"})
    for (const auto& entry : fs::recursive_directory_iterator{wing}) {
      const auto extension = entry.path().extension();
      if (entry.is_regular_file() && (extension == ".h" || extension == ".cpp"))
        found.push_back(entry.path().generic_string());
    }
  std::sort(found.begin(), found.end());
  return found;
}

TEST(IncludeGraph, ArrowsPointDownOnlyAndTheCoreDoesNoInputOrOutput) {
  const auto sources = sources_of_the_house();
  ASSERT_GT(sources.size(), 100U) << "run from the root of the repository";
  for (const auto& path : sources)
    for (const auto& violation : violations(path, as_text(read_file(path)))) ADD_FAILURE() << violation;
}

TEST(IncludeGraph, EveryIncludeOfOursNamesAFile) {
  for (const auto& path : sources_of_the_house()) {
    const Bytes bytes = read_file(path);
    std::string_view text = as_text(bytes);
    while (!text.empty()) {
      const auto end = text.find('\n');
      if (const auto include = parse_include(text.substr(0, end)); include && include->ours) {
        EXPECT_TRUE(fs::exists(include->name)) << path << " includes " << include->name;
      }
      text.remove_prefix(end == text.npos ? text.size() : end + 1);
    }
  }
}

TEST(IncludeGraph, TheFloorPlanHasNoCircle) {
  for (const auto& [room, stands_on] : kFloorPlan)
    for (const auto& lower : stands_on) {
      EXPECT_TRUE(kFloorPlan.contains(lower)) << room << " stands on " << lower;
      EXPECT_FALSE(below(lower).contains(room)) << room << " stands on " << lower << ", which stands on it";
    }
}

TEST(IncludeGraph, FindsAnArrowThatPointsUpAndNamesFileAndLine) {
  EXPECT_THAT(violations("attestation/evidence/quote.cpp",
                         "#include <vector>\n\n#include \"attestation/base/result.h\"\n"
                         "#  include \"attestation/record/dossier.h\"\n"),
              ElementsAre(AllOf(HasSubstr("attestation/evidence/quote.cpp:4:"),
                                HasSubstr("may not include attestation/record"))));
}

TEST(IncludeGraph, FindsAnArrowThatPointsSideways) {
  EXPECT_THAT(violations("attestation/ledger/tree.cpp", "#include \"attestation/policy/policy.h\"\n"),
              ElementsAre(HasSubstr("attestation/ledger/tree.cpp:1:")));
  EXPECT_THAT(violations("client/approver/review.cpp", "#include \"client/engineer/access.h\"\n"),
              ElementsAre(HasSubstr("may not include client/engineer")));
}

TEST(IncludeGraph, SeesOnlyTheClientsSideOfTheGuardFromTheApi) {
  EXPECT_THAT(violations("broker/sessions/broker.cpp", "#include \"broker/keyguard/client.h\"\n"), IsEmpty());
  EXPECT_THAT(violations("broker/sessions/broker.cpp", "#include \"broker/keyguard/guard.h\"\n"),
              ElementsAre(HasSubstr("may not include broker/keyguard ")));
  EXPECT_THAT(violations("broker/http/main.cpp", "#include \"hsm-config/pkcs11/token.h\"\n"),
              ElementsAre(HasSubstr("may not include hsm-config/pkcs11")));
}

TEST(IncludeGraph, FindsInputAndOutputInTheCore) {
  for (const char* header :
       {"fstream", "iostream", "thread", "mutex", "filesystem", "random", "sys/socket.h", "unistd.h",
        "spdlog/spdlog.h", "sqlite3.h", "openssl/rand.h", "openssl/ssl.h", "boost/asio/ip/tcp.hpp"})
    EXPECT_THAT(violations("attestation/record/state.cpp", std::string{"#include <"} + header + ">\n"),
                ElementsAre(HasSubstr("attestation/record/state.cpp:1:")))
        << header;
  EXPECT_THAT(violations("attestation/base/x.h", "\nauto t = std::chrono::system_clock::now();\n"),
              ElementsAre(HasSubstr("attestation/base/x.h:2:")));
  EXPECT_THAT(violations("attestation/ledger/x.cpp", "#include \"attestation/crypto/random.h\"\n"),
              ElementsAre(HasSubstr("nonces as arguments")));
  EXPECT_THAT(violations("attestation/follow/x.cpp", "#include <fstream>\nauto t = Clock::now();\n"),
              IsEmpty());
}

TEST(IncludeGraph, KeepsForeignLibrariesInTheirRoom) {
  EXPECT_THAT(violations("broker/http/api_server.cpp", "#include <boost/beast/http.hpp>\n"),
              ElementsAre(HasSubstr("belongs to attestation/net")));
  EXPECT_THAT(violations("broker/store/sqlite_store.cpp", "#include <sqlite3.h>\n"),
              ElementsAre(HasSubstr("belongs to attestation/sqlite")));
}

TEST(IncludeGraph, RefusesWhatIsOnNoMap) {
  EXPECT_THAT(violations("client/attic/x.cpp", "#include <string>\n"),
              ElementsAre(HasSubstr("client/attic")));
  EXPECT_THAT(violations("client/engineer/x.cpp", "#include \"tests/support/files.h\"\n"),
              ElementsAre(HasSubstr("in no room")));
  EXPECT_THAT(violations("client/engineer/x.cpp", "#include \"access.h\"\n"),
              ElementsAre(HasSubstr("in no room")));
}

}  // namespace
}  // namespace sallyport::test
