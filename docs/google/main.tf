# Google's side of Strait, without a key: as setup.sh, for Terraform. A workload identity pool that trusts the two functions' AWS roles and
# nobody else, a service account that they become, and its roles on the two datasets only.

terraform {
  required_version = ">= 1.3"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

variable "project" {
  type        = string
  description = "Google Cloud project of all tables; STRAIT_PROJECT."
}

variable "location" {
  type        = string
  default     = "US"
  description = "BigQuery location; STRAIT_LOCATION."
}

variable "role_arns" {
  type        = list(string)
  description = "The functions' IAM roles, all of one AWS account: arn:aws:iam::123456789012:role/strait-IngestRole-1A2B3C."

  validation {
    condition     = length(var.role_arns) > 0 && alltrue([for arn in var.role_arns : can(regex("^arn:aws[a-z-]*:iam::[0-9]{12}:role/.+$", arn))])
    error_message = "Expected ARNs of IAM roles."
  }

  validation {
    condition     = length(distinct([for arn in var.role_arns : split(":", arn)[4]])) == 1
    error_message = "Expected roles of one AWS account."
  }
}

variable "datasets" {
  type        = set(string)
  default     = ["cdc", "replica"]
  description = "The datasets of the log and of the final tables."
}

locals {
  aws_account = split(":", var.role_arns[0])[4]
  # As the token of a session names a role: without the path that an IAM role may have.
  assumed_roles = [
    for arn in var.role_arns :
    "arn:${split(":", arn)[1]}:sts::${local.aws_account}:assumed-role/${reverse(split("/", arn))[0]}"
  ]
  services = ["bigquery", "bigquerystorage", "iam", "sts", "iamcredentials"]
}

resource "google_project_service" "used" {
  for_each           = toset(local.services)
  project            = var.project
  service            = "${each.value}.googleapis.com"
  disable_on_destroy = false
}

resource "google_iam_workload_identity_pool" "strait" {
  project                   = var.project
  workload_identity_pool_id = "strait"
  display_name              = "Strait"
  depends_on                = [google_project_service.used]
}

resource "google_iam_workload_identity_pool_provider" "aws" {
  project                            = var.project
  workload_identity_pool_id          = google_iam_workload_identity_pool.strait.workload_identity_pool_id
  workload_identity_pool_provider_id = "aws"
  attribute_mapping = {
    # A whole ARN can be longer than the 127 bytes that Google takes.
    "google.subject"     = "assertion.arn.extract('assumed-role/{session}')"
    "attribute.aws_role" = "assertion.arn.extract('{account}assumed-role/') + 'assumed-role/' + assertion.arn.extract('assumed-role/{role}/')"
  }
  # Only these roles get a token at all.
  attribute_condition = join(" || ", [for role in local.assumed_roles : "attribute.aws_role == '${role}'"])

  aws {
    account_id = local.aws_account
  }
}

resource "google_service_account" "strait" {
  project      = var.project
  account_id   = "strait-replication"
  display_name = "Strait"
}

resource "google_service_account_iam_member" "role" {
  for_each           = toset(local.assumed_roles)
  service_account_id = google_service_account.strait.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "principalSet://iam.googleapis.com/${google_iam_workload_identity_pool.strait.name}/attribute.aws_role/${each.value}"
}

resource "google_project_iam_member" "jobs" {
  project = var.project
  role    = "roles/bigquery.jobUser"
  member  = google_service_account.strait.member
}

resource "google_bigquery_dataset" "strait" {
  for_each    = var.datasets
  project     = var.project
  dataset_id  = each.value
  location    = var.location
  description = "Strait"
  depends_on  = [google_project_service.used]
}

resource "google_bigquery_dataset_iam_member" "strait" {
  for_each   = google_bigquery_dataset.strait
  project    = var.project
  dataset_id = each.value.dataset_id
  role       = "roles/bigquery.dataEditor"
  member     = google_service_account.strait.member
}

output "strait_credentials" {
  description = "STRAIT_CREDENTIALS; it holds no secret."
  value = jsonencode({
    type                              = "external_account"
    audience                          = "//iam.googleapis.com/${google_iam_workload_identity_pool_provider.aws.name}"
    subject_token_type                = "urn:ietf:params:aws:token-type:aws4_request"
    token_url                         = "https://sts.googleapis.com/v1/token"
    service_account_impersonation_url = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/${google_service_account.strait.email}:generateAccessToken"
    credential_source = {
      environment_id                 = "aws1"
      region_url                     = "http://169.254.169.254/latest/meta-data/placement/availability-zone"
      url                            = "http://169.254.169.254/latest/meta-data/iam/security-credentials"
      regional_cred_verification_url = "https://sts.{region}.amazonaws.com?Action=GetCallerIdentity&Version=2011-06-15"
    }
  })
}
