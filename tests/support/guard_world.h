#pragma once

#include <memory>
#include <optional>
#include <string>

#include "broker/keyguard/guard.h"
#include "broker/keyguard/protocol.h"
#include "hsm-config/pkcs11/region_keys.h"
#include "tests/support/files.h"
#include "tests/support/record_scenario.h"
#include "tests/support/softhsm.h"

namespace sallyport::test {

// GuardSeat is where a guard sits: in the test's own process, or in a keyguard of its own.
class GuardSeat {
 public:
  virtual ~GuardSeat() = default;
  virtual Bytes answer(ByteView frame) = 0;
};

// GuardWorld is a company in software (`company`) whose region keys are on a real token, and a guard in front
// of that token. The test is the broker's host: it decides what the guard is told, and may lie.
//
//   GuardWorld world;
//   const OpenCase open = world.company.granted();
//   world.feed();                                               // the guard follows to the head
//   const Bytes certificate = value_of(world.certify(world.company.dossier(open)));
class GuardWorld {
 public:
  // `program` is the path of sallyport-keyguard, which then runs as it does beside an HSM, and is asked over
  // its socket; only its time of day is the company's. Without it the guard is in this process.
  explicit GuardWorld(const std::function<void(SampleCompany&)>& change = {}, std::string program = {});

  TemporarySoftHsm hsm{"us"};
  pkcs11::Token token;
  pkcs11::RegionKeys keys;
  RecordScenario company;
  TemporaryDirectory directory;
  std::unique_ptr<GuardSeat> guard;

  std::filesystem::path state() const { return directory / "guard"; }
  // open starts the guard anew over its directory.
  Result<std::unique_ptr<GuardSeat>> open(const std::filesystem::path& state) const;
  void restart();

  // call sends one frame and takes the answer apart.
  Result<Bytes> call(keyguard::Call call, ByteView payload);
  keyguard::StatusAnswer status();

  // batch is what an honest broker sends: the leaves from `from` on, with control bodies. No note.
  record::Batch batch(LeafIndex from) const;
  // note_of is a checkpoint of the first `size` leaves, signed and cosigned now.
  std::string note_of(TreeSize size, std::size_t witnesses = 3) const;
  Result<std::string> advance(const record::Batch& batch);
  // feed has the guard follow to the head, with a fresh note of the size it was at; gives the signed note.
  std::string feed();

  Result<Bytes> certify(const record::Dossier& dossier);
  Result<Bytes> lease_statement(const keyguard::LeaseStatementCall& call);
  Result<crypto::Signature64> lease(const keyguard::LeaseCall& call);

  // What OpenSSH would have the session key sign for a login with this certificate. Every part can be lied
  // about.
  struct Login {
    std::string user = "dbadmin", method = "publickey-hostbound-v00@openssh.com", service = "ssh-connection";
    std::optional<crypto::PublicKey> host_key = {};  // absent: db-7's
  };
  Bytes login(ByteView certificate, const Login& login) const;
  Bytes login(ByteView certificate) const { return login(certificate, Login{}); }

  // A lease as far as it goes: statement, leaf, and what would ask for the signature.
  struct LeaseSteps {
    std::uint32_t expiration_s = 10;
    ByteArray<32> nonce_tpm{1, 2, 3};
  };
  Result<keyguard::LeaseCall> log_lease(const OpenCase& open, ByteView content, const LeaseSteps& steps);
  Result<keyguard::LeaseCall> log_lease(const OpenCase& open, ByteView content) {
    return log_lease(open, content, LeaseSteps{});
  }

 private:
  Result<std::unique_ptr<GuardSeat>> start_program(const std::filesystem::path& state) const;
  std::string program_;
};

}  // namespace sallyport::test
