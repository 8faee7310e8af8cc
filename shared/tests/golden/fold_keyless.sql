CREATE OR REPLACE TABLE `project`.`cdc`.`_strait_fold_keyless`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR))
AS
WITH `read` AS (
SELECT `operation`, CONCAT(`position`, '@', IF(STARTS_WITH(`position`, '0000-2-') AND STRPOS(`position`, '~') = 0 AND `committed_at` IS NOT NULL, CAST(UNIX_MICROS(`committed_at`) AS STRING), CONCAT(`kafka_topic`, '-', CAST(`kafka_partition` AS STRING), '-', CAST(`kafka_offset` AS STRING)))) AS `position`, `_strait_log`.`position` AS `log_position`, IF(`error` IS NULL, `data`, REGEXP_REPLACE(`data`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `data`, IF(`error` IS NULL, `before`, REGEXP_REPLACE(`before`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `before`, `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, `committed_at`, COALESCE(`emitted_at`, `ingested_at`) AS `sent`, `ingested_at`, TRUE AS `is_new`
FROM `project`.`cdc`.`log` AS `_strait_log`
WHERE TRUE AND `ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND TRUE
AND `source_schema` = 'shop' AND `source_table` = 'order'
AND `operation` IN ('load', 'insert', 'update', 'delete')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `_strait_log`.`position` ORDER BY `ingested_at`) = 1
),
`text` AS (
SELECT * EXCEPT (`before`), COALESCE(JSON_VALUE(`data`, '$."at"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."at"'), ''), 'null')) AS `v0`, COALESCE(JSON_VALUE(`data`, '$."line"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."line"'), ''), 'null')) AS `v1`, IF(`is_new` AND `operation` <> 'delete', NULLIF((SELECT TO_JSON_STRING(ARRAY_AGG(`name` ORDER BY `name`)) FROM UNNEST(JSON_KEYS(SAFE.PARSE_JSON(`data`, wide_number_mode => 'round'), 1)) AS `name` WHERE `name` NOT IN ('"at"', '"line"', 'at', 'line')), 'null'), NULL) AS `unknown_members`
FROM `read`
),
`split` AS (
SELECT `text`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, FALSE AS `has_key`
FROM `text`, UNNEST(IF(`operation` = 'update' AND (FALSE), [FALSE, TRUE], [FALSE])) AS `is_old_key`
),
`typed` AS (
SELECT *,
IF(REGEXP_CONTAINS(`v0`, r'^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}([T ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\.[0-9]{1,6}0*)?Z?|Z)?$'), SAFE_CAST(REGEXP_EXTRACT(`v0`, r'^[^.Z]+(?:\.[0-9]{1,6})?') AS DATETIME), NULL) AS `c0`,
`v1` AS `c1`
FROM `split`
),
`checked` AS (
SELECT *, CASE WHEN `operation` IN ('update', 'delete') THEN -3 WHEN `error` IS NOT NULL AND (`operation` <> 'delete' OR STARTS_WITH(`error`, 'the record has no schema')) THEN -1 WHEN `v0` IS NOT NULL AND `c0` IS NULL AND `operation` <> 'delete' THEN 0 END AS `flaw`
FROM `typed`
),
`sent_in_turn` AS (
SELECT *, MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `position` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_position`, MAX(`committed_at`) OVER (PARTITION BY `flaw` IS NULL, `position` ORDER BY UNIX_MICROS(`sent`) RANGE BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS `earlier_committed`
FROM `checked`
),
`ranked` AS (
SELECT *,
COUNTIF(`is_new` AND NOT `is_old_key`) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_records`,
MAX(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_newest`,
MIN(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_lowest_new`,
MAX(IF(`is_new`, NULL, `position`)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_highest_old`,
MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_position`,
MIN(`position`) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_lowest`,
MIN(IF(`operation` IN ('insert', 'load'), `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `key_added`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `committed_at`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `raised_committed`,
MAX(IF(`is_new` AND NOT `is_old_key` AND `position` > '', `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `raised_emitted`,
COUNTIF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000))) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `anew`,
MIN(IF(`is_new` AND (`position` < `earlier_position` AND (REGEXP_CONTAINS(`position`, r'^[0-9]+-1-t') AND REGEXP_CONTAINS(`earlier_position`, r'^[0-9]+-2-') OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-m') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 2000000 OR REGEXP_CONTAINS(`position`, r'^[0-9]+-2-p') AND UNIX_MICROS(`committed_at`) > UNIX_MICROS(`earlier_committed`) + 86400000000)), `sent`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `position`) AS `anew_from`,
FALSE AS `key_beyond_log`,
FIRST_VALUE(`deleted`) OVER (PARTITION BY `flaw` IS NULL, `position` ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `key_deleted`
FROM `sent_in_turn`
WHERE TRUE
QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER (PARTITION BY `flaw` IS NULL, `position` ORDER BY `deleted`, `position` DESC, `kafka_offset` DESC) = 1, `is_new` AND NOT `is_old_key`)
)
SELECT `c0`, `c1`,
IF(`flaw` IS NULL, `key_position`, `log_position`) AS `position`, `key_deleted` AS `deleted`, NOT `deleted` AS `has_image`,
`key_added` = `key_lowest` AND NOT `key_deleted` AS `adds`, IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,
`flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,
`raised_committed`, `raised_emitted`, `anew`, `anew_from`, `flaw` IS NULL AND `key_beyond_log` AND NOT `key_deleted` AS `beyond_log`,
CASE `flaw` WHEN 0 THEN 'at' WHEN 1 THEN 'line' END AS `flaw_column`,
CASE WHEN `flaw` = -1 THEN `error` WHEN `flaw` = 0 THEN 'DATETIME cannot hold the value exactly' WHEN `flaw` = 1 THEN 'STRING cannot hold the value exactly' WHEN `flaw` = -3 THEN 'the table has no key, so the row that was changed or deleted cannot be told' END AS `flaw_reason`,
CAST(NULL AS STRING) AS `key_text`,
`kafka_topic`, `kafka_partition`, `kafka_offset`, `ingested_at`, `unknown_members` AS `unknown`, CAST(NULL AS STRING) AS `unknown_too`
FROM `ranked`
