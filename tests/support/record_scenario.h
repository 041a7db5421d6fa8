#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "attestation/evidence/binding.h"
#include "attestation/ledger/signed_note.h"
#include "attestation/ledger/tree.h"
#include "attestation/record/dossier.h"
#include "attestation/record/state.h"
#include "tests/support/sample_policy.h"
#include "tests/support/soft_tpm.h"

namespace sallyport::test {

// RecordScenario is a whole company in software: its policy, people with tokens, machines with TPMs, log key,
// witnesses, lease key, a host, and a clock. It appends real entries to a real log, which an honest broker
// folds (`state`) and a follower too (`follower`). Every step takes hooks, with which an attacker changes a
// statement or its evidence before it is signed.
//
//   RecordScenario world;
//   const OpenCase access = world.request({});            // erin asks for db-7
//   world.approve_all(access);                            // alice, bob and dana
//   world.grant(access);
//   const record::Dossier dossier = world.dossier(access);
class RecordScenario {
 public:
  // `change` edits the company before version 1 of its policy begins the log.
  explicit RecordScenario(const std::function<void(SampleCompany&)>& change = {});

  // ---- the world; all of it is open to a test
  TestVendor vendor;
  SampleCompany company;
  crypto::PrivateKey host_key;              // P-256, of db-7; its fingerprint is the first in the policy
  UnixMillis now{1'790'000'000'000};        // the one clock
  std::map<std::string, SoftTpm> machines;  // enrolled ones, by name
  ledger::Tree tree;
  std::vector<record::Entry> entries;  // as appended
  record::State state;                 // of an honest broker
  record::ControlState follower;       // of a keyguard, gate or client
  // Signs a checkpoint's text as the log; a test whose log key is in an HSM sets another.
  std::function<ledger::SignatureLine(const std::string& text)> sign_as_log;
  // With a rooted broker append() asks nobody but the follower, and `state` stays where it is.
  bool broker_is_rooted = false;

  Digest256 genesis;  // of policy version 1: what a trust file pins
  Origin origin() const { return Origin{company.policy.origin}; }
  const record::LoadedPolicy& policy() const { return *follower.policy(); }
  // advance lets time pass, for everybody and every TPM.
  void advance(std::chrono::milliseconds span);
  // A note of the whole tree, cosigned now by the first `witnesses` witnesses.
  std::string cosign(std::size_t witnesses = 3) const;
  std::string cosign(const ledger::Tree& tree_to_sign, std::size_t witnesses, UnixMillis at) const;

  // append folds an entry and puts it into the tree; ten milliseconds pass first, unless it was made for a
  // later time. Its error is the broker's or, if that is rooted, the follower's.
  Result<LeafIndex> append(const record::Entry& entry);
  // entry makes the entry of a submission, as an honest broker would now.
  record::Entry entry(record::Kind kind, const CaseId& case_id, const record::Submission& submission) const;
  Result<LeafIndex> append(record::Kind kind, const CaseId& case_id, const record::Submission& submission) {
    return append(entry(kind, case_id, submission));
  }

  // sign makes a signed envelope.
  template <class Statement>
  Bytes sign(record::Kind kind, const Statement& statement, const crypto::PrivateKey& key) const {
    return sign_payload(record::payload_type(kind), record::encode(statement), key);
  }
  Bytes sign_payload(std::string type, Bytes payload, const crypto::PrivateKey& key) const;

  // ---- machines
  struct EnrolStep {
    std::string machine = "laptop", region = "us", person = "erin";
    std::vector<std::string> approvers = {"frank", "grace"};
    std::function<void(record::EnrolmentRequested&)> edit = {};
    std::function<void(evidence::Binding&)> edit_binding = {};
    std::function<void(std::vector<record::Blob>&)> edit_blobs = {};
  };
  // machine gives the TPM of a machine, which is enrolled first if it is new.
  SoftTpm& machine(const std::string& name, const std::string& region = "us");
  // enrol runs the case of an enrolment with a machine of the caller's. Errors: of the first step that is
  // refused.
  Result<DeviceId> enrol(SoftTpm& tpm, const EnrolStep& step);
  record::Submission enrolment_request(SoftTpm& tpm, const EnrolStep& step, const CaseId& case_id) const;

  // ---- access
  struct RequestStep {
    std::string person = "erin", beneficiary = "", machine = "laptop";  // beneficiary "": the person
    std::string resource = "user-db", host = "db-7", account = "", reason = "INC-4711: replica lag";
    std::uint64_t duration_s = 0;
    std::string address = "10.20.4.17", country = "";
    std::vector<std::pair<std::string, Bytes>> attachments = {};
    std::optional<CaseId> case_id = {};
    std::optional<std::string> note = {};             // absent: cosigned now
    const crypto::PrivateKey* token = nullptr;        // null: the person's
    SoftTpm* tpm = nullptr;                           // null: the machine's
    std::function<void(record::Request&)> edit = {};  // before anything is signed over it
    std::function<void(evidence::SessionKeyPolicy&)> edit_key_policy = {};
    std::function<void(evidence::Binding&)> edit_quote_binding = {}, edit_key_binding = {};
    std::function<void(SoftTpm&)> before_quote = {}, before_certify = {};
    std::function<void(std::vector<record::Blob>&)> edit_blobs = {};
  };
  struct OpenCase {
    CaseId id;
    std::string machine;
    record::Request request;
    Digest256 digest;  // of the request statement
    SoftSessionKey key;
    record::Submission submission;
  };
  OpenCase make_request(const RequestStep& step);
  OpenCase request(const RequestStep& step);  // appended; the test fails if it is refused outright

  struct ApprovalStep {
    std::optional<bool> attested = {};          // absent: as the decision wants it
    const crypto::PrivateKey* token = nullptr;  // null: the approver's
    std::optional<std::string> note = {};
    std::function<void(record::Approval&)> edit = {};
    std::function<void(evidence::Binding&)> edit_binding = {};
    std::function<void(std::vector<record::Blob>&)> edit_blobs = {};
  };
  record::Submission make_approval(const CaseId& case_id, const std::string& person,
                                   const ApprovalStep& step);
  Result<LeafIndex> approve(const CaseId& case_id, const std::string& person, const ApprovalStep& step);
  Result<LeafIndex> approve(const CaseId& case_id, const std::string& person) {
    return approve(case_id, person, ApprovalStep{});
  }
  // make_list makes a person's list-approval of enrolment cases, signed by the person's token.
  Bytes make_list(const std::vector<CaseId>& cases, const std::string& person,
                  const std::function<void(record::ListApproval&)>& edit = {},
                  const crypto::PrivateKey* token = nullptr) const;
  // list_in appends a list in one of its cases.
  Result<LeafIndex> list_in(const CaseId& case_id, const Bytes& list) {
    return append(record::Kind::kListApproval, case_id, {list, {}});
  }
  void approve_all(const OpenCase& open, const std::vector<std::string>& people = {"alice", "bob", "dana"});
  Result<LeafIndex> deny(const CaseId& case_id, const std::string& person,
                         const std::string& reason = "not planned");

  struct GrantStep {
    std::optional<std::string> note = {};
    std::string address = "10.20.4.17", country = "";
    SoftTpm* tpm = nullptr;
    std::function<void(evidence::Binding&)> edit_binding = {};
    std::function<void(SoftTpm&)> before_quote = {};
    std::function<void(std::vector<record::Blob>&)> edit_blobs = {};
    std::function<void(record::Grant&)> edit = {};
  };
  std::vector<record::Blob> activation(const OpenCase& open, const GrantStep& step);
  Result<record::Entry> make_grant(const OpenCase& open, const GrantStep& step);
  // forge_grant makes the entry of any grant statement, as a rooted broker can.
  record::Entry forge_grant(const record::Grant& grant, std::vector<record::Blob> activation) const;
  Result<LeafIndex> grant(const OpenCase& open, const GrantStep& step);
  Result<LeafIndex> grant(const OpenCase& open) { return grant(open, GrantStep{}); }
  // granted runs a whole access: request, approvals, grant.
  OpenCase granted(const RequestStep& step);
  OpenCase granted() { return granted(RequestStep{}); }

  // ---- what else happens in a case
  record::Submission lease(const OpenCase& open, const std::function<void(record::Lease&)>& edit = {},
                           const crypto::PrivateKey* key = nullptr) const;
  record::Submission session_opened(const OpenCase& open, std::uint64_t channel,
                                    const std::function<void(record::SessionOpened&)>& edit = {}) const;
  record::Submission session_closed(const OpenCase& open, std::uint64_t channel,
                                    const std::function<void(record::SessionClosed&)>& edit = {}) const;

  Result<LeafIndex> revoke(record::RevocationKind kind, const std::string& target,
                           const std::string& person = "ivan");
  // change_policy lets `edit` change the company's policy, proposes the next version, has it approved and
  // puts it in force.
  Result<LeafIndex> change_policy(const std::function<void(SamplePolicy&)>& edit,
                                  const std::vector<std::string>& approvers = {"grace", "heidi", "judy"});
  // continue_log begins another log where this one stands: the people of its policy sign the first policy of
  // the next, and from then on this is the scenario of that one. Hooks change what is signed, or carried.
  struct ContinueStep {
    std::string origin = "us.sallyport.corp.example/log/2";
    std::vector<std::string> approvers = {"grace", "heidi", "judy"};
    std::function<void(SamplePolicy&)> edit = {};
    std::function<void(record::PolicyProposed&)> edit_proposal = {};
    std::function<void(record::Continuation&)> edit_continuation = {};
  };
  Result<LeafIndex> continue_log(const ContinueStep& step);
  // policy_document is the company's policy as it stands, with what travels beside it.
  record::PolicyDocument policy_document() const;
  // What that takes: the policy's text is company.policy's from then on.
  record::Continuation make_continuation(const ContinueStep& step);

  record::Submission proposal(const CaseId& case_id, const std::string& person = "grace",
                              const std::function<void(record::PolicyProposed&)>& edit = {}) const;

  // Erasing, under a policy that lets somebody: kErase for SamplePolicy::erase, and "us-legal" (dana) for
  // hold.
  static constexpr std::string_view kErase =
      "{ quorum = [ { group = \"security\", approvals = 2 }, { group = \"privacy\", approvals = 1 } ], "
      "retention = \"7d\" }";
  record::Submission erasure_proposal(const CaseId& case_id, std::vector<CaseId> cases,
                                      const std::function<void(record::ErasureProposed&)>& edit = {}) const;
  // propose_erasure names cases that were opened before the policy's retention, and gives the erasure's case.
  Result<CaseId> propose_erasure(std::vector<CaseId> cases,
                                 const std::function<void(record::ErasureProposed&)>& edit = {});
  // erase has it approved and recorded. `state` and `entries` keep what was there: forget_erased takes it
  // away.
  Result<LeafIndex> erase(std::vector<CaseId> cases,
                          const std::function<void(record::ErasureProposed&)>& edit = {},
                          const std::vector<std::string>& approvers = {"grace", "heidi", "carol"});
  Result<LeafIndex> hold(std::vector<CaseId> cases, const std::string& person = "dana");
  Result<LeafIndex> lift(const CaseId& hold, const std::string& person = "dana");
  // erased_entries gives the log as it is stored once the entries of these cases are only leaves.
  std::vector<record::Entry> erased_entries(const std::vector<CaseId>& cases) const;

  // dossier gives the full dossier of a granted case, under the tree as it is, cosigned now.
  record::Dossier dossier(const CaseId& case_id) const;
  record::Dossier dossier(const OpenCase& open) const { return dossier(open.id); }
  // proof is a stapled proof of a leaf under a note.
  std::string proof(LeafIndex index, const std::string& note) const;
  LeafIndex last_index() const { return LeafIndex{entries.size() - 1}; }

 private:
  evidence::PcrSelection selection() const;  // that the policy wants quoted
  record::Blob quote_blob(SoftTpm& tpm, const evidence::Binding& binding) const;
  void add_ima(SoftTpm& tpm, const evidence::Binding& binding, std::vector<record::Blob>& blobs) const;
  Bytes pem_of_roots() const;
};

using OpenCase = RecordScenario::OpenCase;

}  // namespace sallyport::test
