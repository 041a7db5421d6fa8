#include "tests/support/fault_house.h"

#include "attestation/crypto/digest.h"
#include "attestation/record/dossier.h"
#include "broker/credentials/ssh_certificate.h"
#include "broker/keyguard/protocol.h"
#include "tests/support/matchers.h"

namespace sallyport::test {

using namespace record;
using std::chrono::seconds;

// ---- what everybody was told

void Told::note(const std::string& text) {
  const auto parsed = ledger::parse_note(text);
  ASSERT_TRUE(parsed.has_value()) << text;
  const auto head = ledger::parse_checkpoint_text(parsed->text);
  ASSERT_TRUE(head.has_value()) << text;
  const std::lock_guard lock{mutex_};
  ++notes_;
  const auto [at, fresh] = heads_.emplace(head->size.get(), head->root);
  EXPECT_TRUE(fresh || at->second == head->root) << "two roots at size " << head->size.get();
}
std::string Told::summary() const {
  const std::lock_guard lock{mutex_};
  return std::to_string(leaves_.size()) + " leaves acknowledged, " + std::to_string(notes_) +
         " checkpoints seen of " + std::to_string(heads_.size()) + " sizes";
}

// ---- the house

House::House() : world(programs()), access(world) {
  std::filesystem::copy(world.hsm.directory() / "tokens", directory / "tokens",
                        std::filesystem::copy_options::recursive);
}

Process& House::process(const std::string& part) {
  return part == "broker"     ? world.broker()
         : part == "keyguard" ? world.keyguard()
                              : world.witnesses[part == "witness-two"     ? 1
                                                : part == "witness-three" ? 2
                                                                          : 0]
                                    ->process();
}
bool House::start(const std::string& part) {
  if (part == "broker") return world.try_start_broker();
  if (part == "keyguard") {
    mend_token();
    return world.try_start_keyguard();
  }
  return world.witnesses[part == "witness-two" ? 1 : part == "witness-three" ? 2 : 0]->try_start();
}

void House::mend_token() {
  for (const auto& file : std::filesystem::recursive_directory_iterator{directory / "tokens"}) {
    if (!file.is_regular_file()) continue;
    const auto there =
        world.hsm.directory() / "tokens" / std::filesystem::relative(file.path(), directory / "tokens");
    if (std::filesystem::exists(there) && std::filesystem::file_size(there) == file.file_size()) continue;
    std::filesystem::copy_file(file.path(), there, std::filesystem::copy_options::overwrite_existing);
    ++mended_;
  }
}

House::Revoking House::revoking() const {
  Revoking one;
  one.submission = make_revocation(world, one.digest);
  return one;
}

void House::check() {
  std::optional<ApiPeer> reader;
  const auto fetched = poll_until([&] {
    if (!reader) {
      auto fresh = world.peer("olga");
      if (!fresh.has_value()) return false;
      reader.emplace(std::move(*fresh));
    }
    return true;
  });
  ASSERT_TRUE(fetched) << "nobody serves the log: " << world.broker().output();
  for (const auto& witness : world.witnesses) remember(*witness);
  for (TreeSize from{noted_};;) {
    const auto notes = reader->checkpoints(from);
    ASSERT_THAT(notes, Succeeds());
    if (notes->empty()) break;
    for (const std::string& note : *notes) {
      told.note(note);
      const auto checked = ledger::check_quorum(note, world.company.policy().witnesses);
      ASSERT_THAT(checked, Succeeds());
      noted_ = checked->size().get();
      from = TreeSize{noted_ + 1};
    }
  }
  const auto heads = told.heads();
  const std::uint64_t largest = heads.empty() ? 0 : heads.rbegin()->first;
  std::vector<Entry>& known = world.company.entries;
  const auto read = [&](std::uint64_t from) {  // gives how many there were
    const auto page = reader->entries(LeafIndex{from});
    EXPECT_THAT(page, Succeeds());
    if (!page.has_value()) return std::size_t{0};
    for (std::size_t i = 0; i < page->entries.size(); ++i) {
      const std::uint64_t index = from + i;
      const Entry& entry = page->entries[i];
      if (index < known.size()) {
        EXPECT_TRUE(entry.leaf == known[index].leaf && entry.nonce == known[index].nonce &&
                    entry.body == known[index].body && entry.blobs.size() == known[index].blobs.size())
            << "leaf " << index << " is another than it was";
        continue;
      }
      const auto appended = world.company.append(entry);
      EXPECT_THAT(appended, Succeeds()) << "leaf " << index;
      if (!appended.has_value()) return std::size_t{0};
    }
    return page->entries.size();
  };
  for (std::uint64_t from = 0; const std::size_t count = read(from);) from += count;
  EXPECT_TRUE(poll_until([&] {
    read(known.size());
    return known.size() >= largest;
  })) << "the log is shorter than a head that was shown: "
      << known.size() << " < " << largest;
  while (in_log_.size() < known.size()) {
    take(known[in_log_.size()], in_log_.size());
    ASSERT_EQ(roots_.size(), in_log_.size() + 1) << "a statement is in the log twice";
  }
  for (const auto& [size, root] : heads) {
    ASSERT_LE(size, known.size());
    ASSERT_EQ(root, roots_.at(size)) << "another tree at size " << size;
  }
  for (const auto& [digest, index] : told.leaves()) {
    ASSERT_TRUE(in_log_.contains(digest)) << "what was acknowledged is lost: leaf " << index;
    EXPECT_EQ(in_log_.at(digest), index);
  }
  for (const auto& [id, count] : grants_) EXPECT_EQ(count, 1) << "grants in case " << to_hex(id);
  world.company.now = BrokerProcess::wall_clock();
}

void House::judge_output(const std::string& part) {
  const std::string whole = process(part).output(), text = whole.substr(judged_[part]);
  judged_[part] = whole.size();
  for (const char* never : {"broken promise", "terminate called", "[internal]", "Sanitizer"})
    EXPECT_EQ(text.find(never), text.npos)
        << part << ": " << text.substr(text.size() - std::min<std::size_t>(text.size(), 2000));
}

BrokerProcess::Programs House::programs() {
  return {.keyguard = SALLYPORT_KEYGUARD_PROGRAM,
          .broker = SALLYPORT_BROKER_PROGRAM,
          .witness = SALLYPORT_WITNESS_PROGRAM,
          .keyguard_environment = keyguard_faults.environment("/keyguard/"),
          .broker_environment = broker_faults.environment("/broker/"),
          .witness_environments = {witness_faults.environment("/state/")},
          .on_answer = [this](ByteView answer) {
            const auto frame = keyguard::parse_frame(answer);
            ASSERT_THAT(frame, Succeeds());
            if (frame->call == keyguard::Call::kAdvance) told.note(std::string{as_text(frame->payload)});
          }};
}

void House::remember(const WitnessProcess& witness) {
  auto client = net::HttpClient::connect(witness.url(), {});
  if (!client.has_value()) return;  // it is away: it is asked the next time
  const auto origin = world.company.origin();
  const auto answer = client->get("/" + to_hex(crypto::sha256(as_bytes(origin.get()))) + "/checkpoint");
  if (answer.has_value() && answer->status == 200) told.note(std::string{answer->text()});
}

void House::take(const Entry& entry, std::uint64_t index) {
  range_.append(ledger::leaf_hash(entry.leaf));
  roots_.push_back(range_.root());
  const Digest256 digest = statement_digest(value_of(open_envelope(value_of(parse_body(entry.body)))));
  in_log_.emplace(digest, index);
  if (entry.leaf.kind == static_cast<std::uint8_t>(Kind::kGrant)) ++grants_[entry.leaf.case_id];
}

// ---- work

Work::Work(House& house, std::optional<OpenCase> open) : house_(house), open_(std::move(open)) {
  for (int i = 0; i < 3; ++i) threads_.emplace_back([this] { append(); });
  if (open_) threads_.emplace_back([this] { activate(); });
}
Work::~Work() {
  give_up_ = true;
  for (std::thread& thread : threads_) thread.join();
}

std::string Work::refusal() const {
  const std::lock_guard lock{mutex_};
  return refusal_;
}

void Work::try_until_told(const std::function<Status()>& step) {
  poll_until(
      [&] {
        const Status told = step();
        if (!told.has_value()) {
          const std::lock_guard lock{mutex_};
          refusal_ = describe(told.error());
        }
        if (told.has_value()) ++done_;
        return told.has_value() || give_up_;
      },
      seconds{120});
}

void Work::append() {
  const House::Revoking one = house_.revoking();
  std::optional<ApiPeer> peer;
  try_until_told([&]() -> Status {
    if (!peer) {
      SP_TRY(ApiPeer fresh, house_.world.peer("ivan"));
      peer.emplace(std::move(fresh));
    }
    const auto submitted = peer->submit(one.submission);
    if (!submitted.has_value()) {
      peer.reset();
      return submitted.error();
    }
    house_.told.leaf(one.digest, submitted->leaf);
    if (const auto head = peer->head(); head.has_value()) house_.told.note(*head);
    return Done{};
  });
}

void Work::activate() {
  try_until_told([&]() -> Status {
    SP_TRY(given_, house_.access.activate(*open_));
    return Done{};
  });
}

void check_given(House& house, const Work& work) {
  if (!work.open()) return;
  ASSERT_TRUE(work.given());
  const auto again = house.access.activate(*work.open());
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->certificate, work.given()->certificate);
  house.check();
  const auto grant = verify_dossier(value_of(parse_dossier(again->dossier)), house.world.company.follower,
                                    BrokerProcess::wall_clock());
  ASSERT_THAT(grant, Succeeds());
  EXPECT_THAT(
      credentials::verify_ssh_certificate(value_of(credentials::parse_ssh_certificate(again->certificate)),
                                          *grant, house.world.company.company.policy.ssh_ca),
      Succeeds());
}

}  // namespace sallyport::test
