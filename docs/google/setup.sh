#!/usr/bin/env bash
# Google's side of Strait, without a key: a workload identity pool that trusts the two functions' AWS roles and nobody else, a service
# account that they become, and its roles on the two datasets only. Prints the credential configuration for STRAIT_CREDENTIALS.
# It can be run again: what exists is left as it is.
#
#   ./setup.sh PROJECT LOCATION ROLE_ARN [ROLE_ARN…]     set up; LOCATION as STRAIT_LOCATION: US, EU, europe-west3
#   ./setup.sh --remove PROJECT                          remove all but the datasets and what is in them
#
# ROLE_ARN is an IAM role's, as `sam deploy` prints it: arn:aws:iam::123456789012:role/strait-ingest
# Names other than the defaults, by environment: POOL, PROVIDER, ACCOUNT, LOG_DATASET, REPLICA_DATASET.
set -euo pipefail

pool=${POOL:-strait}
provider=${PROVIDER:-aws}
account=${ACCOUNT:-strait-replication}
log_dataset=${LOG_DATASET:-cdc}
replica_dataset=${REPLICA_DATASET:-replica}

fail() {
  echo "$1" >&2
  exit 2
}

usage() {
  fail "usage: $0 PROJECT LOCATION ROLE_ARN [ROLE_ARN…] | $0 --remove PROJECT"
}

# The role as the token of a session names it: without the path that an IAM role may have.
assumed_role() {
  local arn=$1 partition number name
  [[ $arn =~ ^arn:(aws[a-z-]*):iam::([0-9]{12}):role/(.+)$ ]] || fail "$arn is not the ARN of an IAM role"
  partition=${BASH_REMATCH[1]} number=${BASH_REMATCH[2]} name=${BASH_REMATCH[3]##*/}
  echo "arn:$partition:sts::$number:assumed-role/$name"
}

remove() {
  local project=$1 email="$account@$1.iam.gserviceaccount.com"
  gcloud projects remove-iam-policy-binding "$project" --condition=None --quiet \
    --member="serviceAccount:$email" --role=roles/bigquery.jobUser >/dev/null || true
  for dataset in "$log_dataset" "$replica_dataset"; do
    bq query --project_id="$project" --use_legacy_sql=false --quiet \
      "REVOKE \`roles/bigquery.dataEditor\` ON SCHEMA \`$project\`.\`$dataset\` FROM \"serviceAccount:$email\"" || true
  done
  gcloud iam service-accounts delete "$email" --project="$project" --quiet || true
  # Google keeps its name for 30 days.
  gcloud iam workload-identity-pools delete "$pool" --project="$project" --location=global --quiet || true
  echo "Removed. The datasets are still there: bq rm -r -f $project:$log_dataset; bq rm -r -f $project:$replica_dataset" >&2
}

if [[ ${1:-} == --remove ]]; then
  [[ $# -eq 2 ]] || usage
  remove "$2"
  exit
fi
[[ $# -ge 3 ]] || usage
project=$1 location=$2
shift 2

roles=()
for arn in "$@"; do
  roles+=("$(assumed_role "$arn")")
done
aws_account=$(cut -d: -f5 <<<"${roles[0]}")
condition=""
for role in "${roles[@]}"; do
  [[ $(cut -d: -f5 <<<"$role") == "$aws_account" ]] || fail "the roles are of different AWS accounts"
  condition+="${condition:+ || }attribute.aws_role == '$role'"
done

gcloud services enable --project="$project" \
  bigquery.googleapis.com bigquerystorage.googleapis.com iam.googleapis.com sts.googleapis.com iamcredentials.googleapis.com
project_number=$(gcloud projects describe "$project" --format='value(projectNumber)')
pool_path="projects/$project_number/locations/global/workloadIdentityPools/$pool"

# The pool, and AWS in it: only these roles get a token at all. The subject is `role/session`: a whole ARN can be longer than the 127
# bytes that Google takes.
gcloud iam workload-identity-pools describe "$pool" --project="$project" --location=global >/dev/null 2>&1 ||
  gcloud iam workload-identity-pools create "$pool" --project="$project" --location=global --display-name="Strait"
mapping="google.subject=assertion.arn.extract('assumed-role/{session}')"
mapping+=",attribute.aws_role=assertion.arn.extract('{account}assumed-role/') + 'assumed-role/' + assertion.arn.extract('assumed-role/{role}/')"
action=create-aws
if gcloud iam workload-identity-pools providers describe "$provider" --project="$project" --location=global \
  --workload-identity-pool="$pool" >/dev/null 2>&1; then
  # The roles may be others than last time.
  action=update-aws
fi
gcloud iam workload-identity-pools providers "$action" "$provider" --project="$project" --location=global \
  --workload-identity-pool="$pool" --account-id="$aws_account" --attribute-mapping="$mapping" --attribute-condition="$condition"

# The service account, which each of the roles may become.
email="$account@$project.iam.gserviceaccount.com"
gcloud iam service-accounts describe "$email" --project="$project" >/dev/null 2>&1 ||
  gcloud iam service-accounts create "$account" --project="$project" --display-name="Strait"
for role in "${roles[@]}"; do
  gcloud iam service-accounts add-iam-policy-binding "$email" --project="$project" --quiet \
    --role=roles/iam.workloadIdentityUser --member="principalSet://iam.googleapis.com/$pool_path/attribute.aws_role/$role" >/dev/null
done

# Jobs run in the project; data is written in two datasets.
gcloud projects add-iam-policy-binding "$project" --condition=None --quiet \
  --member="serviceAccount:$email" --role=roles/bigquery.jobUser >/dev/null
for dataset in "$log_dataset" "$replica_dataset"; do
  bq show --project_id="$project" "$dataset" >/dev/null 2>&1 ||
    bq mk --project_id="$project" --location="$location" --dataset --description="Strait" "$dataset"
  bq query --project_id="$project" --use_legacy_sql=false --quiet \
    "GRANT \`roles/bigquery.dataEditor\` ON SCHEMA \`$project\`.\`$dataset\` TO \"serviceAccount:$email\""
done

# It holds no secret. On one line, as STRAIT_CREDENTIALS takes it.
file=$(mktemp)
trap 'rm -f "$file"' EXIT
gcloud iam workload-identity-pools create-cred-config "$pool_path/providers/$provider" --aws --service-account="$email" --output-file="$file" >&2
echo "STRAIT_CREDENTIALS:" >&2
tr -d '\n' <"$file"
echo
