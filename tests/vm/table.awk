# Makes the table of docs/KERNELS.md of what the tests printed: a line `column NAME` before each run's output; runs of one name
# are one column. The rows are the files of tests, and each test of tests/it/kernel.rs.
/^column / {
    title = substr($0, 8)
    if (!(title in number)) {
        number[title] = ++columns
        name[columns] = title
    }
    column = number[title]
    next
}
/^test .*::.* \.\.\. / {
    reason = ""
    if (match($0, /\[skipped: [^]]*\]/)) reason = substr($0, RSTART + 10, RLENGTH - 11)
    line = $0
    sub(/^test +(\[[^]]*\] +)?/, "", line)
    split(line, words, " ")
    split(words[1], parts, "::")
    row = parts[1]
    if (row == "kernel") row = "kernel: " parts[2]
    gsub(/_/, " ", row)
    if (!(row in seen)) {
        seen[row] = 1
        rows[++count] = row
    }
    cell = row SUBSEP column
    if (line ~ /\.\.\. ok$/) passed[cell]++
    else if (line ~ /\.\.\. ignored$/) {
        skipped[cell]++
        if (!((cell, reason) in told)) {
            told[cell, reason] = 1
            why[cell] = why[cell] (why[cell] ? "; " : "") reason
        }
    } else failed[cell]++
}
END {
    printf "| tests |"
    for (c = 1; c <= columns; c++) printf " %s |", name[c]
    printf "\n|---|"
    for (c = 1; c <= columns; c++) printf "---|"
    print ""
    for (i = 2; i <= count; i++)
        for (j = i; j > 1 && rows[j] < rows[j - 1]; j--) {
            swap = rows[j]
            rows[j] = rows[j - 1]
            rows[j - 1] = swap
        }
    for (i = 1; i <= count; i++) {
        printf "| %s |", rows[i]
        for (c = 1; c <= columns; c++) {
            cell = rows[i] SUBSEP c
            text = ""
            if (failed[cell]) text = "**" failed[cell] " failed**"
            if (passed[cell]) text = text (text ? ", " : "") passed[cell] " passed"
            if (skipped[cell]) text = text (text ? ", " : "") skipped[cell] " skipped: " why[cell]
            printf " %s |", text ? text : "not run"
        }
        print ""
    }
}
