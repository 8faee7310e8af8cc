CREATE OR REPLACE TABLE `project`.`cdc`.`_strait_fold_soft_null`
OPTIONS (expiration_timestamp = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL 24 HOUR))
AS
WITH `read` AS (
SELECT `operation`, `position`, IF(`error` IS NULL, `data`, REGEXP_REPLACE(`data`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `data`, IF(`error` IS NULL, `before`, REGEXP_REPLACE(`before`, r'\\u[dD][89a-fA-F][0-9a-fA-F]{2}', r'\\uFFFD')) AS `before`, `error`, `kafka_topic`, `kafka_partition`, `kafka_offset`, TRUE AS `is_new`
FROM `project`.`cdc`.`log`
WHERE `ingested_at` >= TIMESTAMP '2026-01-02 02:46:40.000000+00' AND `ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND NOT (`ingested_at` <= TIMESTAMP '2026-01-02 03:04:05.678901+00' AND ((`kafka_topic` = 'cdc' AND `kafka_partition` = 0 AND `kafka_offset` BETWEEN 0 AND 41) OR (`kafka_topic` = 'it\'s' AND `kafka_partition` = 7 AND `kafka_offset` BETWEEN 5 AND 5)))
AND `source_schema` = 'shop' AND `source_table` = 'order'
AND `operation` IN ('load', 'insert', 'update', 'delete')
QUALIFY ROW_NUMBER() OVER (PARTITION BY `kafka_topic`, `kafka_partition`, `kafka_offset`, `position` ORDER BY `ingested_at`) = 1
),
`text` AS (
SELECT * EXCEPT (`before`), COALESCE(JSON_VALUE(`data`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."id"'), ''), 'null')) AS `v0`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_id"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_id"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."id"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."id"'), ''), 'null'))) AS `b0`, COALESCE(JSON_VALUE(`data`, '$."select"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."select"'), ''), 'null')) AS `v1`, COALESCE(JSON_VALUE(`data`, '$."a.b"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."a.b"'), ''), 'null')) AS `v2`, COALESCE(JSON_VALUE(`data`, '$."a`c"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."a`c"'), ''), 'null')) AS `v3`, COALESCE(JSON_VALUE(`data`, '$."with space"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."with space"'), ''), 'null')) AS `v4`, COALESCE(JSON_VALUE(`data`, '$."이름"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."이름"'), ''), 'null')) AS `v5`, COALESCE(JSON_VALUE(`data`, '$."Case"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."Case"'), ''), 'null')) AS `v6`, COALESCE(JSON_VALUE(`data`, '$."case"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."case"'), ''), 'null')) AS `v7`, COALESCE(JSON_VALUE(`data`, '$."at"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."at"'), ''), 'null')) AS `v8`, COALESCE(JSON_VALUE(`data`, '$."quote\\"d"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."quote\\"d"'), ''), 'null')) AS `v9`, COALESCE(JSON_VALUE(`data`, '$."back\\\\slash"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."back\\\\slash"'), ''), 'null')) AS `v10`, COALESCE(JSON_VALUE(`data`, '$."it\'s"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."it\'s"'), ''), 'null')) AS `v11`, COALESCE(JSON_VALUE(`data`, '$."line"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."line"'), ''), 'null')) AS `v12`, IF(`before` IS NULL, COALESCE(JSON_VALUE(`data`, '$."BI_line"'), NULLIF(CONCAT(JSON_QUERY(`data`, '$."BI_line"'), ''), 'null')), COALESCE(JSON_VALUE(`before`, '$."line"'), NULLIF(CONCAT(JSON_QUERY(`before`, '$."line"'), ''), 'null'))) AS `b12`
FROM `read`
),
`split` AS (
SELECT `text`.*, `is_old_key`, `is_old_key` OR `operation` = 'delete' AS `deleted`, IF(`is_old_key`, COALESCE(`b0`, `v0`), `v0`) AS `t0`, IF(`is_old_key`, COALESCE(`b12`, `v12`), `v12`) AS `t12`
FROM `text`, UNNEST(IF(`operation` = 'update' AND (COALESCE(`b0` <> `v0`, FALSE) OR COALESCE(`b12` <> `v12`, FALSE)), [FALSE, TRUE], [FALSE])) AS `is_old_key`
),
`typed` AS (
SELECT *,
CASE WHEN REGEXP_CONTAINS(`t0`, r'^-?[0-9]+$') THEN SAFE_CAST(`t0` AS INT64) WHEN REGEXP_CONTAINS(`t0`, r'^-?[0-9]{1,16}\.0*$') THEN SAFE_CAST(REGEXP_EXTRACT(`t0`, r'^-?[0-9]+') AS INT64) WHEN REGEXP_CONTAINS(`t0`, r'^-?[0-9](\.[0-9]{1,15})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`t0` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`t0` AS NUMERIC)) <= 9007199254740992 THEN SAFE_CAST(SAFE_CAST(`t0` AS NUMERIC) AS INT64) END AS `c0`,
`v1` AS `c1`,
CASE WHEN REGEXP_CONTAINS(`v2`, r'^-?0*[0-9]{0,29}(\.[0-9]{0,9}0*)?$') THEN SAFE_CAST(`v2` AS NUMERIC) WHEN REGEXP_CONTAINS(`v2`, r'^-?[0-9](\.[0-9]{1,14})?[eE]([+]?[0-9]{1,2}|-(1?[0-9]|20))$') AND ABS(SAFE_CAST(`v2` AS BIGNUMERIC)) <= 9007199254740992 AND ROUND(SAFE_CAST(`v2` AS BIGNUMERIC), 9) = SAFE_CAST(`v2` AS BIGNUMERIC) THEN SAFE_CAST(`v2` AS NUMERIC) END AS `c2`,
CASE WHEN REGEXP_CONTAINS(`v3`, r'^-?0*[0-9]{0,38}(\.[0-9]{0,38}0*)?$') THEN SAFE_CAST(`v3` AS BIGNUMERIC) WHEN REGEXP_CONTAINS(`v3`, r'^-?[0-9](\.[0-9]{1,14})?[eE]([+]?[0-9]{1,2}|-(1?[0-9]|20))$') AND ABS(SAFE_CAST(`v3` AS BIGNUMERIC)) <= 9007199254740992 AND ROUND(SAFE_CAST(`v3` AS BIGNUMERIC), 38) = SAFE_CAST(`v3` AS BIGNUMERIC) THEN SAFE_CAST(`v3` AS BIGNUMERIC) END AS `c3`,
CASE WHEN LOWER(`v4`) IN ('nan', 'inf', '-inf', 'infinity', '-infinity') THEN SAFE_CAST(`v4` AS FLOAT64) WHEN NOT REGEXP_CONTAINS(`v4`, r'^-?[0-9]*\.?[0-9]+([eE][+-]?[0-9]+)?$') OR IS_INF(SAFE_CAST(`v4` AS FLOAT64)) THEN NULL WHEN REGEXP_CONTAINS(`v4`, r'^-?[0-9]{16,38}$') AND SAFE_CAST(SAFE_CAST(`v4` AS FLOAT64) AS BIGNUMERIC) <> SAFE_CAST(`v4` AS BIGNUMERIC) THEN NULL ELSE SAFE_CAST(`v4` AS FLOAT64) END AS `c4`,
CASE WHEN LOWER(`v5`) IN ('t', 'true', '1') THEN TRUE WHEN LOWER(`v5`) IN ('f', 'false', '0') THEN FALSE END AS `c5`,
IF(REGEXP_CONTAINS(`v6`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}$'), SAFE_CAST(`v6` AS DATE), NULL) AS `c6`,
IF(REGEXP_CONTAINS(`v7`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6}0*)?Z?$'), SAFE_CAST(REGEXP_EXTRACT(`v7`, r'^[^.Z]+(?:\.[0-9]{1,6})?') AS DATETIME), NULL) AS `c7`,
IF(REGEXP_CONTAINS(`v8`, r'^[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-5][0-9](\.[0-9]{1,6}0*)?(Z|[+-][0-9]{2}(:[0-9]{2})?)?$'), SAFE_CAST(REGEXP_REPLACE(`v8`, r'(\.[0-9]{6})0+', r'\1') AS TIMESTAMP), NULL) AS `c8`,
IF(REGEXP_CONTAINS(`v9`, r'^(0x)?([0-9A-Fa-f][0-9A-Fa-f])*$'), SAFE.FROM_HEX(REGEXP_REPLACE(`v9`, r'^0x', '')), NULL) AS `c9`,
CASE WHEN REGEXP_CONTAINS(`v10`, r'^-?0*[0-9]{0,29}(\.[0-9]{0,9}0*)?$') THEN SAFE_CAST(`v10` AS NUMERIC) WHEN REGEXP_CONTAINS(`v10`, r'^-?[0-9](\.[0-9]{1,14})?[eE]([+]?[0-9]{1,2}|-(1?[0-9]|20))$') AND ABS(SAFE_CAST(`v10` AS BIGNUMERIC)) <= 9007199254740992 AND ROUND(SAFE_CAST(`v10` AS BIGNUMERIC), 9) = SAFE_CAST(`v10` AS BIGNUMERIC) THEN SAFE_CAST(`v10` AS NUMERIC) END AS `c10`,
`v11` AS `c11`,
CASE WHEN REGEXP_CONTAINS(`t12`, r'^-?[0-9]+$') THEN SAFE_CAST(`t12` AS INT64) WHEN REGEXP_CONTAINS(`t12`, r'^-?[0-9]{1,16}\.0*$') THEN SAFE_CAST(REGEXP_EXTRACT(`t12`, r'^-?[0-9]+') AS INT64) WHEN REGEXP_CONTAINS(`t12`, r'^-?[0-9](\.[0-9]{1,15})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`t12` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`t12` AS NUMERIC)) <= 9007199254740992 THEN SAFE_CAST(SAFE_CAST(`t12` AS NUMERIC) AS INT64) END AS `c12`
FROM `split`
),
`checked` AS (
SELECT *, CASE WHEN `error` IS NOT NULL AND `operation` <> 'delete' THEN -1 WHEN `c0` IS NULL OR `is_old_key` AND (CASE WHEN REGEXP_CONTAINS(`v0`, r'^-?[0-9]+$') THEN SAFE_CAST(`v0` AS INT64) WHEN REGEXP_CONTAINS(`v0`, r'^-?[0-9]{1,16}\.0*$') THEN SAFE_CAST(REGEXP_EXTRACT(`v0`, r'^-?[0-9]+') AS INT64) WHEN REGEXP_CONTAINS(`v0`, r'^-?[0-9](\.[0-9]{1,15})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`v0` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`v0` AS NUMERIC)) <= 9007199254740992 THEN SAFE_CAST(SAFE_CAST(`v0` AS NUMERIC) AS INT64) END) IS NULL THEN 0 WHEN `v2` IS NOT NULL AND `c2` IS NULL AND `operation` <> 'delete' THEN 2 WHEN `v3` IS NOT NULL AND `c3` IS NULL AND `operation` <> 'delete' THEN 3 WHEN `v4` IS NOT NULL AND `c4` IS NULL AND `operation` <> 'delete' THEN 4 WHEN `v5` IS NOT NULL AND `c5` IS NULL AND `operation` <> 'delete' THEN 5 WHEN `v6` IS NOT NULL AND `c6` IS NULL AND `operation` <> 'delete' THEN 6 WHEN `v7` IS NOT NULL AND `c7` IS NULL AND `operation` <> 'delete' THEN 7 WHEN `v8` IS NOT NULL AND `c8` IS NULL AND `operation` <> 'delete' THEN 8 WHEN `v9` IS NOT NULL AND `c9` IS NULL AND `operation` <> 'delete' THEN 9 WHEN `v10` IS NOT NULL AND `c10` IS NULL AND `operation` <> 'delete' THEN 10 WHEN `c12` IS NULL OR `is_old_key` AND (CASE WHEN REGEXP_CONTAINS(`v12`, r'^-?[0-9]+$') THEN SAFE_CAST(`v12` AS INT64) WHEN REGEXP_CONTAINS(`v12`, r'^-?[0-9]{1,16}\.0*$') THEN SAFE_CAST(REGEXP_EXTRACT(`v12`, r'^-?[0-9]+') AS INT64) WHEN REGEXP_CONTAINS(`v12`, r'^-?[0-9](\.[0-9]{1,15})?[eE][+]?[0-9]{1,2}$') AND MOD(SAFE_CAST(`v12` AS NUMERIC), 1) = 0 AND ABS(SAFE_CAST(`v12` AS NUMERIC)) <= 9007199254740992 THEN SAFE_CAST(SAFE_CAST(`v12` AS NUMERIC) AS INT64) END) IS NULL THEN 12 END AS `flaw`
FROM `typed`
),
`ranked` AS (
SELECT *,
COUNTIF(`is_new` AND NOT `is_old_key`) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12`) AS `key_records`,
MAX(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12`) AS `key_newest`,
MIN(IF(`is_new`, `position`, NULL)) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12`) AS `key_lowest_new`,
MAX(IF(`is_new`, NULL, `position`)) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12`) AS `key_highest_old`,
MAX(`position`) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12`) AS `key_position`,
FIRST_VALUE(`deleted`) OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12` ORDER BY `position` DESC, `deleted`, `kafka_offset` DESC ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS `key_deleted`
FROM `checked`
WHERE TRUE
QUALIFY IF(`flaw` IS NULL, `key_newest` IS NOT NULL AND ROW_NUMBER() OVER (PARTITION BY `flaw` IS NULL, `c0`, `c12` ORDER BY `deleted`, `position` DESC, `kafka_offset` DESC) = 1, `is_new` AND NOT `is_old_key`)
)
SELECT `c0`, `c1`, `c2`, `c3`, `c4`, `c5`, `c6`, `c7`, `c8`, `c9`, `c10`, `c11`, `c12`,
IF(`flaw` IS NULL, `key_position`, `position`) AS `position`, `key_deleted` AS `deleted`, NOT `deleted` AS `has_image`,
IF(`flaw` IS NULL, `key_records`, 1) AS `records`, `key_newest` AS `newest`,
`flaw` IS NULL AND COALESCE(`key_highest_old` >= `key_lowest_new`, FALSE) AS `late`,
CASE `flaw` WHEN 0 THEN 'id' WHEN 1 THEN 'select' WHEN 2 THEN 'a_b_2e7336dc' WHEN 3 THEN 'a_c_14923d06' WHEN 4 THEN 'with_space_b8b8f25a' WHEN 5 THEN '이름' WHEN 6 THEN 'Case' WHEN 7 THEN 'case_bbfcd416' WHEN 8 THEN 'at' WHEN 9 THEN 'quote_d_a31b87dc' WHEN 10 THEN 'back_slash_1498e0b5' WHEN 11 THEN 'it_s_24ceef1c' WHEN 12 THEN 'line' END AS `flaw_column`,
CASE WHEN `flaw` = -1 THEN `error` WHEN `flaw` = 0 AND `t0` IS NULL THEN 'the key column is missing or NULL' WHEN `flaw` = 0 THEN 'INT64 cannot hold the value exactly' WHEN `flaw` = 1 THEN 'STRING cannot hold the value exactly' WHEN `flaw` = 2 THEN 'NUMERIC cannot hold the value exactly' WHEN `flaw` = 3 THEN 'BIGNUMERIC cannot hold the value exactly' WHEN `flaw` = 4 THEN 'FLOAT64 cannot hold the value exactly' WHEN `flaw` = 5 THEN 'BOOL cannot hold the value exactly' WHEN `flaw` = 6 THEN 'DATE cannot hold the value exactly' WHEN `flaw` = 7 THEN 'DATETIME cannot hold the value exactly' WHEN `flaw` = 8 THEN 'TIMESTAMP cannot hold the value exactly' WHEN `flaw` = 9 THEN 'BYTES cannot hold the value exactly' WHEN `flaw` = 10 THEN 'NUMERIC cannot hold the value exactly' WHEN `flaw` = 11 THEN 'STRING cannot hold the value exactly' WHEN `flaw` = 12 AND `t12` IS NULL THEN 'the key column is missing or NULL' WHEN `flaw` = 12 THEN 'INT64 cannot hold the value exactly' END AS `flaw_reason`,
CONCAT('{', '"id":', COALESCE(TO_JSON_STRING(`t0`), 'null'), ',', '"line":', COALESCE(TO_JSON_STRING(`t12`), 'null'), '}') AS `key_text`,
`kafka_topic`, `kafka_partition`, `kafka_offset`
FROM `ranked`
